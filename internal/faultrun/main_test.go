//go:build linux

package faultrun

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"syscall"
	"testing"

	"github.com/mosaik-go/mosaik/internal/leak"
)

// nodeEnv makes the test binary the process of a node, wrapEnv says that it runs in namespaces of its own.
const (
	nodeEnv = "MOSAIK_FAULTRUN_NODE"
	wrapEnv = "MOSAIK_FAULTRUN_WRAPPED"
)

// wrapped says that this process is root in a mount and a network namespace that nobody else uses.
var wrapped = os.Getenv(wrapEnv) != ""

// TestMain runs the tests in a process in namespaces of its own, if the machine lets it: all networks and mounts that the
// tests make are gone with its end, whatever kind of end that is.
func TestMain(m *testing.M) {
	if spec := os.Getenv(nodeEnv); spec != "" {
		os.Exit(nodeMain(spec))
	}
	if !wrapped {
		if code, ok := wrap(); ok {
			os.Exit(code)
		}
	} else if out, err := exec.Command("ip", "link", "set", "lo", "up").CombinedOutput(); err != nil {
		fmt.Fprintf(os.Stderr, "faultrun: ip link set lo up: %v: %s\n", err, out)
		os.Exit(1)
	}
	os.Exit(leak.Check(m.Run()))
}

// wrap runs this program again in new namespaces and returns its exit code, or false if there can be none.
func wrap() (int, bool) {
	me, err := os.Executable()
	if err != nil || !canWrap(me) {
		return 0, false
	}
	cmd := exec.Command(me, os.Args[1:]...)
	cmd.Env = append(os.Environ(), wrapEnv+"=1")
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.SysProcAttr = namespaces()
	err = cmd.Run()
	if exit, ok := errors.AsType[*exec.ExitError](err); ok {
		return max(1, exit.ExitCode()), true
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "faultrun: run in namespaces:", err)
		return 1, true
	}
	return 0, true
}

// namespaces asks for a mount and a network namespace, as a user who is root only in there if need be.
func namespaces() *syscall.SysProcAttr {
	attr := &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNS | syscall.CLONE_NEWNET, Pdeathsig: syscall.SIGKILL}
	if os.Getuid() != 0 {
		attr.Cloneflags |= syscall.CLONE_NEWUSER
		attr.UidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getuid(), Size: 1}}
		attr.GidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getgid(), Size: 1}}
	}
	return attr
}

// canWrap tries all that a run needs of the machine.
func canWrap(me string) bool {
	for _, tool := range []string{"ip", "mount", "sh"} {
		if _, err := exec.LookPath(tool); err != nil {
			return false
		}
	}
	try := exec.Command("sh", "-ec", `
		mount --make-rprivate /
		mount -t tmpfs tmpfs "$(dirname "$0")"
		ip link set lo up
		ip link add near type veth peer name far
		ip rule add prio 7 from 10.99.1.2 to 10.99.2.2 blackhole
		echo 1 >/proc/sys/net/ipv4/ip_forward`, me)
	try.SysProcAttr = namespaces()
	return try.Run() == nil
}
