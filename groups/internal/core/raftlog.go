package core

import "fmt"

// raftLogger gives the library's lines to ours, without its habit of panicking through the logger.
type raftLogger struct{ to RaftLogger }

func (l raftLogger) Debug(v ...any) { l.Debugf("%s", fmt.Sprint(v...)) }
func (l raftLogger) Debugf(f string, v ...any) {
	if l.to != nil {
		l.to.Debugf(f, v...)
	}
}

func (l raftLogger) Info(v ...any) { l.Infof("%s", fmt.Sprint(v...)) }
func (l raftLogger) Infof(f string, v ...any) {
	if l.to != nil {
		l.to.Infof(f, v...)
	}
}

func (l raftLogger) Warning(v ...any) { l.Warningf("%s", fmt.Sprint(v...)) }
func (l raftLogger) Warningf(f string, v ...any) {
	if l.to != nil {
		l.to.Warningf(f, v...)
	}
}

func (l raftLogger) Error(v ...any) { l.Errorf("%s", fmt.Sprint(v...)) }
func (l raftLogger) Errorf(f string, v ...any) {
	if l.to != nil {
		l.to.Errorf(f, v...)
	}
}

// The library calls these when an invariant is broken; the engine's guard catches the panic.
func (l raftLogger) Fatal(v ...any)            { panic(fmt.Sprint(v...)) }
func (l raftLogger) Fatalf(f string, v ...any) { panic(fmt.Sprintf(f, v...)) }
func (l raftLogger) Panic(v ...any)            { panic(fmt.Sprint(v...)) }
func (l raftLogger) Panicf(f string, v ...any) { panic(fmt.Sprintf(f, v...)) }
