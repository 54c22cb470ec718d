package registry

import (
	"bufio"
	"encoding/json"
	"os"
	"os/exec"
	"testing"
	"time"
)

// childEnv makes this test binary a process that waits until its input ends.
const childEnv = "MOSAIK_REGISTRY_TEST_CHILD"

func init() {
	if os.Getenv(childEnv) != "" {
		os.Stdout.WriteString("up\n")
		bufio.NewReader(os.Stdin).ReadByte()
		os.Exit(0)
	}
}

// writeAs writes the file of a peer as if a process had.
func writeAs(t *testing.T, r *Registry, n byte, p process) {
	t.Helper()
	data, err := json.Marshal(record{addrOf(n), p})
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(r.file(peer(n)), data, 0o600); err != nil {
		t.Fatal(err)
	}
}

// The file of a process that was killed is removed by the next who looks, and that of a living one is not.
func TestFilesOfDeadProcesses(t *testing.T) {
	t.Parallel()
	a := publish(t, base(t), 1)
	child := exec.Command(os.Args[0])
	child.Env = append(os.Environ(), childEnv+"=1")
	in, err := child.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := child.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := child.Start(); err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	if line, err := bufio.NewReader(out).ReadString('\n'); err != nil || line != "up\n" {
		t.Fatalf("the child says %q, %v", line, err)
	}
	alive := process{PID: child.Process.Pid, Space: thisProcess().Space}
	if _, alive.Born, err = look(alive.PID); err != nil {
		t.Fatal(err)
	}
	writeAs(t, a, 2, alive)
	if got := listed(t, a); len(got) != 1 {
		t.Errorf("of a living process: listed %v", got)
	}

	writeAs(t, a, 1, alive)
	if pid, ok := a.Claim(); ok || pid != alive.PID {
		t.Errorf("of a living process: holder %d, claimed %v", pid, ok)
	}

	reused := alive
	reused.Born = "1"
	writeAs(t, a, 2, reused)
	if got := listed(t, a); got != nil {
		t.Errorf("of a process whose number another has now: listed %v", got)
	}
	if _, err := os.Stat(a.file(peer(2))); err == nil {
		t.Error("the file is still there")
	}

	elsewhere := alive
	elsewhere.Space = "another boot"
	child.Process.Kill()
	for !alive.gone() { // ended, and not waited for
		time.Sleep(time.Millisecond)
	}
	if pid, ok := a.Claim(); !ok {
		t.Errorf("of a killed process: holder %d", pid)
	}
	a.Release()
	child.Wait()
	writeAs(t, a, 3, elsewhere)
	if got := listed(t, a); len(got) != 1 {
		t.Errorf("of a process whose number means nothing here: listed %v", got)
	}
	writeAs(t, a, 2, alive)
	if got := listed(t, a); len(got) != 1 || got[0] != peer(3) {
		t.Errorf("of a killed process: listed %v", got)
	}
}

// A node leaves the file alone that another process has written for the same identity since.
func TestWithdrawLeavesWhatOthersWrote(t *testing.T) {
	t.Parallel()
	a := publish(t, base(t), 1)
	other := thisProcess()
	other.PID++
	writeAs(t, a, 1, other)
	if err := a.Withdraw(); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(a.file(peer(1))); err != nil {
		t.Errorf("the other's file: %v", err)
	}
}

func TestThisProcess(t *testing.T) {
	t.Parallel()
	p := thisProcess()
	if p.PID != os.Getpid() || p.Born == "" || p.Space == "" || p.gone() {
		t.Errorf("%+v, gone: %v", p, p.gone())
	}
	if (process{}).gone() {
		t.Error("nobody is gone")
	}
	if _, _, err := look(1 << 30); err == nil {
		t.Error("a process that cannot be was born")
	}
}
