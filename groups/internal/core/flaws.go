package core

// Flaws are bugs that the engine has on request, so that the simulator can show that its checks find them. All are off
// outside of it.
type Flaws struct {
	UngatedReads bool // a new leader answers reads before an entry of its own term is committed
	LonelyReads  bool // a leader answers reads without hearing from a majority
	ApplyAgain   bool // a call that the log holds twice counts twice
	TakeAgain    bool // a leader takes a call again that it has already
}
