package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"sync"
	"syscall"
	"time"
)

// patience bounds each wait for a node.
const patience = time.Minute

// branch is a node's process, in its present life.
type branch struct {
	cmd    *exec.Cmd
	online chan struct{} // closed when it says so
	quiet  chan struct{}
	books  chan *books   // capacity one
	read   chan struct{} // closed when all it wrote is read
	dead   bool
}

// record is what the tellers have said of their transfers.
type record struct{ begun, done, refused, unknown uint64 }

// state is the town: it starts and kills the nodes, and writes down what they say.
type state struct {
	dir   string
	out   io.Writer
	name  string
	lives int
	nodes [3]*branch

	mu         sync.Mutex // guards all following fields
	tellers    map[string]record
	complaints []string
}

// town runs the whole show and prints what happens to out.
func town(length time.Duration, dir string, out io.Writer) (err error) {
	if dir == "" {
		if dir, err = os.MkdirTemp("", "bank-"); err != nil {
			return err
		}
		defer os.RemoveAll(dir)
	}
	if dir, err = filepath.Abs(dir); err != nil {
		return err
	}
	s := &state{dir: dir, out: out, name: "bank in " + dir, lives: int(time.Now().UnixMilli()), tellers: make(map[string]record)}
	defer func() {
		for i := range s.nodes {
			s.kill(i)
		}
	}()
	if err := s.startAll(0, 1, 2); err != nil {
		return err
	}
	fmt.Fprintf(out, "three nodes are online, with %d in %d accounts, in %s\n", accounts*opening, accounts, dir)
	single, all, err := s.rob(length)
	if err != nil {
		return err
	}
	return s.settle(single, all)
}

// startAll starts nodes and waits until they are online.
func (s *state) startAll(which ...int) error {
	for _, i := range which {
		if err := s.start(i); err != nil {
			return err
		}
	}
	for _, i := range which {
		if err := s.wait(i, "online", s.nodes[i].online); err != nil {
			return err
		}
	}
	return nil
}

// rob kills nodes at random moments, one or all at once, and starts them again.
func (s *state) rob(length time.Duration) (single, all int, err error) {
	for end := time.Now().Add(length); time.Now().Before(end); {
		time.Sleep(500*time.Millisecond + rand.N(1500*time.Millisecond))
		victims := []int{rand.N(3)}
		if (single+all)%4 == 2 {
			victims = []int{0, 1, 2}
			all++
		} else {
			single++
		}
		for _, i := range victims {
			s.nodes[i].cmd.Process.Kill() // SIGKILL
		}
		for _, i := range victims {
			s.kill(i)
		}
		made := s.sum().done
		fmt.Fprintf(s.out, "killed %v; %d transfers acknowledged so far\n", victims, made)
		time.Sleep(rand.N(500 * time.Millisecond))
		if err := s.startAll(victims...); err != nil {
			return single, all, err
		}
	}
	return single, all, nil
}

// settle ends the transfers and compares.
func (s *state) settle(single, all int) error {
	for i := range s.nodes {
		s.nodes[i].cmd.Process.Signal(syscall.SIGUSR1)
	}
	for i := range s.nodes {
		if err := s.wait(i, "done", s.nodes[i].quiet); err != nil {
			return err
		}
	}
	var first *books
	for i := range s.nodes {
		s.nodes[i].cmd.Process.Signal(syscall.SIGUSR2)
		b, err := s.booksOf(i)
		if err != nil {
			return err
		}
		if err := b.audit(); err != nil {
			return fmt.Errorf("node %d: %w", i, err)
		}
		if first == nil {
			first = b
		} else if b.Accounts != first.Accounts || !maps.Equal(b.Transfers, first.Transfers) {
			return fmt.Errorf("nodes 0 and %d have different books", i)
		}
	}
	for i := range s.nodes {
		s.nodes[i].cmd.Process.Signal(syscall.SIGTERM)
	}
	for i := range s.nodes {
		if err := s.wait(i, "closed", s.nodes[i].read); err != nil {
			return err
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	var errs []error
	for _, c := range s.complaints {
		errs = append(errs, errors.New(c))
	}
	for name, r := range s.tellers {
		if made := first.Transfers[name]; made < r.done || made > r.begun-r.refused {
			errs = append(errs, fmt.Errorf("teller %s: %d transfers were acknowledged and %d may have been made, the books have %d", name, r.done, r.begun-r.refused, made))
		}
	}
	if err := errors.Join(errs...); err != nil {
		return err
	}
	sum := s.sumLocked()
	fmt.Fprintf(s.out, "%d times one node was killed, %d times all three\n", single, all)
	fmt.Fprintf(s.out, "%d transfers were acknowledged, and all of them are in the books, once; %d were cut off by a kill, and are there once or not at all\n",
		sum.done, sum.begun-sum.done-sum.refused)
	fmt.Fprintf(s.out, "all three nodes have the same books, and they add up to %d\n", first.total())
	return nil
}

func (s *state) sum() record {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.sumLocked()
}

func (s *state) sumLocked() (sum record) {
	for _, r := range s.tellers {
		sum.begun += r.begun
		sum.done += r.done
		sum.refused += r.refused
		sum.unknown += r.unknown
	}
	return sum
}

// start runs a node as a process: this program again.
func (s *state) start(i int) error {
	me, err := os.Executable()
	if err != nil {
		return err
	}
	dir := filepath.Join(s.dir, strconv.Itoa(i))
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	s.lives++
	b := &branch{
		online: make(chan struct{}), quiet: make(chan struct{}), books: make(chan *books, 1), read: make(chan struct{}),
		cmd: exec.Command(me, "-node", strconv.Itoa(i), "-life", strconv.Itoa(s.lives), "-name", s.name, "-dir", dir),
	}
	b.cmd.Stderr = os.Stderr
	out, err := b.cmd.StdoutPipe()
	if err != nil {
		return err
	}
	if err := b.cmd.Start(); err != nil {
		return err
	}
	s.nodes[i] = b
	go s.listen(b, out)
	return nil
}

// listen writes down what a process says, until it ends.
func (s *state) listen(b *branch, r io.Reader) {
	defer close(b.read)
	lines := bufio.NewScanner(r)
	lines.Buffer(nil, 16<<20)
	for lines.Scan() {
		var n news
		if json.Unmarshal(lines.Bytes(), &n) != nil {
			continue // cut off by the kill
		}
		switch {
		case n.Online:
			close(b.online)
		case n.Quiet:
			close(b.quiet)
		case n.Books != nil:
			b.books <- n.Books
		}
		s.note(n)
	}
}

func (s *state) note(n news) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if n.Complain != "" {
		s.complaints = append(s.complaints, n.Complain)
	}
	if n.Teller == "" {
		return
	}
	r := s.tellers[n.Teller]
	switch {
	case n.Begun > 0:
		r.begun++
	case n.Done > 0:
		r.done++
	case n.Refused > 0:
		r.refused++
	case n.Unknown > 0:
		r.unknown++
	}
	s.tellers[n.Teller] = r
}

// kill ends a process with SIGKILL, unless it has ended, and takes down all it said before.
func (s *state) kill(i int) {
	b := s.nodes[i]
	if b == nil || b.dead {
		return
	}
	b.dead = true
	b.cmd.Process.Kill()
	<-b.read
	b.cmd.Wait()
}

func (s *state) wait(i int, what string, done <-chan struct{}) error {
	select {
	case <-done:
		return nil
	case <-time.After(patience):
		return fmt.Errorf("node %d is not %s after %v", i, what, patience)
	case <-s.nodes[i].read:
		select {
		case <-done: // it was the end that was waited for, or came just before
			return nil
		default:
			return fmt.Errorf("node %d has ended", i)
		}
	}
}

func (s *state) booksOf(i int) (*books, error) {
	select {
	case b := <-s.nodes[i].books:
		return b, nil
	case <-time.After(patience):
		return nil, fmt.Errorf("node %d does not show its books", i)
	case <-s.nodes[i].read:
		return nil, fmt.Errorf("node %d has ended", i)
	}
}
