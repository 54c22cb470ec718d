package registry

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"
	"syscall"
)

// thisProcess names the running process. Its number means something only within one boot of the machine and one
// process namespace.
var thisProcess = sync.OnceValue(func() process {
	boot, _ := os.ReadFile("/proc/sys/kernel/random/boot_id")
	space, _ := os.Readlink("/proc/self/ns/pid")
	p := process{PID: os.Getpid()}
	if len(boot) > 0 && space != "" {
		p.Space = strings.TrimSpace(string(boot)) + " " + space
		_, p.Born, _ = look(p.PID)
	}
	return p
})

// look returns the state of a process, Z for one that has ended and was not waited for, and when it was started, in clock
// ticks since boot: fields 3 and 22 of its stat file. The second field, the name, may contain anything, so fields are
// counted from the closing parenthesis.
func look(pid int) (state, born string, err error) {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return "", "", err
	}
	_, rest, ok := strings.Cut(string(stat[max(0, strings.LastIndexByte(string(stat), ')')):]), " ")
	fields := strings.Fields(rest)
	if !ok || len(fields) < 20 {
		return "", "", errors.New("registry: unexpected format of a process's stat file")
	}
	return fields[0], fields[19], nil
}

// gone reports whether the process is known to have ended. When in doubt it has not.
func (p process) gone() bool {
	if !p.local() {
		return false
	}
	if errors.Is(syscall.Kill(p.PID, 0), syscall.ESRCH) {
		return true
	}
	state, born, err := look(p.PID)
	return err == nil && (state == "Z" || state == "X" || p.Born != "" && born != p.Born)
}

// lives reports whether the process is known to run. When in doubt it does not.
func (p process) lives() bool {
	if !p.local() || p.Born == "" {
		return false
	}
	state, born, err := look(p.PID)
	return err == nil && state != "Z" && state != "X" && born == p.Born
}

// local reports whether the number of the process means something here.
func (p process) local() bool { return p.PID > 0 && p.Space != "" && p.Space == thisProcess().Space }
