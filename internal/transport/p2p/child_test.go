package p2p_test

func runChild() {}
