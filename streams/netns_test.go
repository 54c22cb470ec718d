//go:build linux

package streams_test

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/mosaik-go/mosaik"
	"github.com/mosaik-go/mosaik/streams"
)

// childEnv makes the test binary one of the processes of TestNamespaces: role, policy, network, own address, and the
// address of the producer.
const childEnv = "MOSAIK_STREAMS_CHILD"

func init() {
	if args := strings.Split(os.Getenv(childEnv), " "); len(args) >= 4 {
		if err := child(args); err != nil {
			fmt.Println("error:", err)
			os.Exit(1)
		}
		os.Exit(0)
	}
}

// child produces until its input ends, and then prints how many it sent; or it consumes, and prints what it has for each
// line of its input.
func child(args []string) error {
	ctx := context.Background()
	policy, _ := strconv.Atoi(args[1])
	opts := []mosaik.Option{mosaik.WithReach(mosaik.LAN), mosaik.WithoutRegistry(), mosaik.WithListen("/ip4/" + args[3] + "/tcp/4001")}
	if len(args) > 4 {
		peer, err := mosaik.ParsePeerAddr(args[4])
		if err != nil {
			return err
		}
		opts = append(opts, mosaik.WithBootstrap(peer))
	}
	net, err := mosaik.New(ctx, args[2], opts...)
	if err != nil {
		return err
	}
	in := bufio.NewScanner(os.Stdin)
	if args[0] == "produce" {
		fmt.Println(net.Addr())
		p, err := streams.Produce[tick](net, streams.OnLag(streams.Policy(policy)), streams.BufferSize(100), streams.OnlineWhen(streams.AtLeast(0)))
		if err != nil {
			return err
		}
		within, cancel := context.WithTimeout(ctx, 20*time.Second)
		defer cancel()
		if err := p.When().Subscribed(within); err != nil {
			return err
		}
		stop := make(chan struct{})
		go func() { in.Scan(); close(stop) }()
		for sent := uint64(0); ; time.Sleep(2 * time.Millisecond) {
			select {
			case <-stop:
				fmt.Println("sent", sent)
				in.Scan() // until the consumer has it
				return net.Close()
			default:
			}
			if p.TrySend(tick{Life: 1, N: sent + 1}) == nil {
				sent++
			}
		}
	}
	a := newAccount()
	if a.c, err = streams.Consume[tick](net, streams.OnGap(a.gap), fast); err != nil {
		return err
	}
	go a.run(ctx, nil)
	fmt.Println("consuming")
	for in.Scan() {
		a.mu.Lock()
		next := uint64(1)
		for _, p := range a.of {
			next = p.next
		}
		fmt.Println(next, a.received, a.lost, len(a.problems))
		a.mu.Unlock()
	}
	return net.Close()
}

// process is a running child.
type process struct {
	t   *testing.T
	in  interface{ Write([]byte) (int, error) }
	out *bufio.Scanner
}

func start(t *testing.T, namespace string, args ...string) *process {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "ip", "netns", "exec", namespace, os.Args[0])
	cmd.Env = append(os.Environ(), childEnv+"="+strings.Join(args, " "))
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		in.Close()
		cmd.Process.Kill()
		cmd.Wait()
	})
	return &process{t, in, bufio.NewScanner(out)}
}

// ask writes a line, if it is not empty, and reads one.
func (p *process) ask(line string) string {
	p.t.Helper()
	if line != "" {
		fmt.Fprintln(p.in, line)
	}
	if !p.out.Scan() {
		p.t.Fatal("the process has ended")
	}
	return p.out.Text()
}

// Two processes in network namespaces of their own, with a wire between them that is cut and mended, account for every item.
// It needs root and takes a minute, so it runs only when asked for.
func TestNamespaces(t *testing.T) {
	if os.Getenv(LongEnv) == "" || os.Getuid() != 0 {
		t.Skipf("needs %s=1 and root", LongEnv)
	}
	if _, err := exec.LookPath("ip"); err != nil {
		t.Skip("needs the command ip")
	}
	a, b := fmt.Sprintf("mosaik-a-%d", os.Getpid()), fmt.Sprintf("mosaik-b-%d", os.Getpid())
	ip := func(args ...string) {
		t.Helper()
		if out, err := exec.Command("ip", args...).CombinedOutput(); err != nil {
			t.Fatalf("ip %v: %v: %s", args, err, out)
		}
	}
	for _, ns := range []string{a, b} {
		ip("netns", "add", ns)
		t.Cleanup(func() { exec.Command("ip", "netns", "del", ns).Run() })
		ip("-n", ns, "link", "set", "lo", "up")
	}
	ip("-n", a, "link", "add", "wire", "type", "veth", "peer", "name", "wire", "netns", b)
	for ns, addr := range map[string]string{a: "10.99.0.1/24", b: "10.99.0.2/24"} {
		ip("-n", ns, "addr", "add", addr, "dev", "wire")
		ip("-n", ns, "link", "set", "wire", "up")
	}
	for _, c := range policies {
		t.Run(c.name, func(t *testing.T) {
			network := fmt.Sprintf("namespaces-%d-%d", os.Getpid(), c.policy)
			policy := strconv.Itoa(int(c.policy))
			producer := start(t, a, "produce", policy, network, "10.99.0.1")
			addr := producer.ask("")
			consumer := start(t, b, "consume", policy, network, "10.99.0.2", addr)
			consumer.ask("")
			for _, cut := range []time.Duration{time.Second, 9 * time.Second} { // within the connection's life, and beyond
				time.Sleep(time.Second)
				ip("-n", a, "link", "set", "wire", "down")
				time.Sleep(cut)
				ip("-n", a, "link", "set", "wire", "up")
			}
			time.Sleep(20 * time.Second)
			var sent, next, received, lost, problems uint64
			fmt.Sscanf(producer.ask("stop"), "sent %d", &sent)
			for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(100 * time.Millisecond) {
				fmt.Sscan(consumer.ask("?"), &next, &received, &lost, &problems)
				if next == sent+1 || time.Now().After(deadline) {
					break
				}
			}
			if next != sent+1 || received+lost != sent || problems > 0 || sent < 1000 {
				t.Errorf("sent %d; item %d is due, received %d, missed %d, %d problems", sent, next, received, lost, problems)
			}
			if c.policy == streams.Block && lost > 0 {
				t.Logf("%d items were on a connection that broke", lost)
			}
		})
	}
}
