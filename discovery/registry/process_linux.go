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
		p.Born, _ = born(p.PID)
	}
	return p
})

// born returns when a process was started, in clock ticks since boot: field 22 of its stat file. The second field, the
// name, may contain anything, so fields are counted from the closing parenthesis.
func born(pid int) (string, error) {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return "", err
	}
	_, rest, ok := strings.Cut(string(stat[max(0, strings.LastIndexByte(string(stat), ')')):]), " ")
	fields := strings.Fields(rest)
	if !ok || len(fields) < 20 {
		return "", errors.New("registry: unexpected format of a process's stat file")
	}
	return fields[19], nil
}

// gone reports whether the process is known to have ended. When in doubt it has not.
func (p process) gone() bool {
	if p.PID <= 0 || p.Space == "" || p.Space != thisProcess().Space {
		return false
	}
	if errors.Is(syscall.Kill(p.PID, 0), syscall.ESRCH) {
		return true
	}
	now, err := born(p.PID)
	return err == nil && p.Born != "" && now != p.Born
}
