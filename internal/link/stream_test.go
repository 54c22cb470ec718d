package link_test

import (
	"bytes"
	"encoding/binary"
	"net"
	"os"
	"sync"
	"testing"

	"github.com/mosaik-go/mosaik/internal/leak"
	"github.com/mosaik-go/mosaik/internal/link"
)

func TestMain(m *testing.M) { os.Exit(leak.Check(m.Run())) }

// pipe is a stream without any buffer: a Write ends when all of it has been read on the other side, so a test decides how
// fast the stream is. Deadlines are virtual time's in a synctest bubble.
type pipe struct {
	net.Conn

	mu     sync.Mutex
	writes []int     // sizes of the calls of Write
	ended  bool      // CloseWrite was called
	code   link.Code // of Abort
	why    error     // what reads and writes fail with after Abort
}

// newPipe returns a stream and the other side of it.
func newPipe(t *testing.T) (*pipe, net.Conn) {
	here, there := net.Pipe()
	t.Cleanup(func() {
		here.Close()
		there.Close()
	})
	return &pipe{Conn: here}, there
}

func (p *pipe) Write(b []byte) (int, error) {
	p.mu.Lock()
	p.writes = append(p.writes, len(b))
	p.mu.Unlock()
	n, err := p.Conn.Write(b)
	p.mu.Lock()
	defer p.mu.Unlock()
	if err != nil && p.why != nil {
		err = p.why
	}
	return n, err
}

func (p *pipe) CloseWrite() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.ended = true
	return p.why
}

func (p *pipe) Abort(code link.Code) error { return p.abort(&link.CloseError{Code: code}) }

// abort breaks the stream, from whichever side.
func (p *pipe) abort(why *link.CloseError) error {
	p.mu.Lock()
	if p.why == nil {
		p.why = why
		p.code = why.Code
	}
	p.mu.Unlock()
	return p.Conn.Close()
}

// state returns what has been done to the stream.
func (p *pipe) state() (writes []int, ended bool, code link.Code) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return append([]int(nil), p.writes...), p.ended, p.code
}

// frame returns the wire form of a frame.
func frame(body []byte) []byte {
	return append(binary.BigEndian.AppendUint32(nil, uint32(len(body))), body...)
}

// claim returns the header of a frame with a body of the given size.
func claim(size uint32) []byte { return binary.BigEndian.AppendUint32(nil, size) }

func body(size int) []byte { return bytes.Repeat([]byte("m"), size) }
