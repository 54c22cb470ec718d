package groups

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"sync/atomic"

	"github.com/mosaik-go/mosaik/codec"
	"github.com/mosaik-go/mosaik/groups/internal/core"
	"github.com/mosaik-go/mosaik/groups/internal/host"
	"github.com/mosaik-go/mosaik/id"
)

// A call's commands travel as one payload: the encoded command itself if it is one, else each with its length as a
// uvarint in front.

// adapter makes a typed machine usable for the driver, which knows bytes only. It holds the lock that keeps queries and
// commands apart.
type adapter[C, Q, R any] struct {
	codec   codec.Codec[C]
	fresh   func() Machine[C, Q, R]
	group   id.ID
	network id.ID

	mu      machineLock // held for reading by queries, for writing by Apply
	machine Machine[C, Q, R]
	batch   BatchApplier[C, R] // the machine, if it has ApplyBatch
	index   Index              // applied, outside of Apply

	resets atomic.Uint64 // how often the machine was put back into its initial state; changes under mu

	doing host.Doing

	// Owned by the applier.
	commands []C
	results  []R
	at       span // what Apply is at
}

// span is commands that are applied at once.
type span struct {
	first core.Index
	count int
}

func newAdapter[C, Q, R any](c codec.Codec[C], fresh func() Machine[C, Q, R], first Machine[C, Q, R]) *adapter[C, Q, R] {
	a := &adapter[C, Q, R]{codec: c, fresh: fresh}
	a.install(first)
	return a
}

func (a *adapter[C, Q, R]) install(m Machine[C, Q, R]) {
	a.machine = m
	a.batch, _ = any(m).(BatchApplier[C, R])
	a.index = 0
}

// Doing implements host.Observed.
func (a *adapter[C, Q, R]) Doing() *host.Doing { return &a.doing }

// Reset implements host.Machine.
func (a *adapter[C, Q, R]) Reset() {
	m := a.fresh()
	a.mu.lock()
	defer a.mu.unlock()
	a.install(m)
	a.resets.Add(1)
}

// query reads the state. It waits for what is being applied, until ctx ends or over is closed.
func (a *adapter[C, Q, R]) query(ctx context.Context, over <-chan struct{}, q Q) (res Result[R], err error) {
	if err := a.mu.rlock(ctx, over); err != nil {
		return res, err
	}
	defer a.mu.runlock()
	return Result[R]{Value: a.machine.Query(q), Index: a.index}, nil
}

// since returns what to give to querySince. It does not wait for a command that is being applied.
func (a *adapter[C, Q, R]) since() (resets uint64) { return a.resets.Load() }

// querySince is query, unless the machine has begun anew since.
func (a *adapter[C, Q, R]) querySince(ctx context.Context, over <-chan struct{}, resets uint64, q Q) (res Result[R], ok bool, err error) {
	if err := a.mu.rlock(ctx, over); err != nil {
		return res, false, err
	}
	defer a.mu.runlock()
	if a.resets.Load() != resets {
		return res, false, nil
	}
	return Result[R]{Value: a.machine.Query(q), Index: a.index}, true, nil
}

// Apply implements host.Machine.
func (a *adapter[C, Q, R]) Apply(items []core.Item, term uint64) {
	a.doing.Set(host.Yielding, items[0].First)
	defer a.doing.Done()
	a.mu.lock()
	defer a.mu.unlock()
	if a.batch != nil {
		a.applyBatches(items, term)
		return
	}
	for i := range items {
		it := &items[i]
		var own *call[C, R]
		if it.Call != nil {
			own = it.Call.Host.(*host.Call).Results.(*call[C, R])
		}
		ctx := a.context(it.First, term)
		switch {
		case it.Count == 1:
			a.applyOne(ctx, it, own)
		default:
			a.applyMany(ctx, it, own)
		}
		a.index = Index(it.First) + Index(it.Count) - 1
	}
}

func (a *adapter[C, Q, R]) context(index core.Index, term uint64) ApplyContext {
	return ApplyContext{Index: Index(index), Term: term, Group: a.group, Network: a.network}
}

func (a *adapter[C, Q, R]) applyOne(ctx ApplyContext, it *core.Item, own *call[C, R]) {
	a.at = span{it.First, 1}
	var cmd C
	if err := a.codec.Decode(it.Payload, &cmd); err != nil {
		reject(own, err)
		return
	}
	a.doing.Set(host.Applying, it.First)
	r := a.machine.Apply(ctx, cmd)
	if own != nil {
		own.value = r
	}
}

func (a *adapter[C, Q, R]) applyMany(ctx ApplyContext, it *core.Item, own *call[C, R]) {
	a.at = span{it.First, it.Count}
	a.commands = a.commands[:0]
	if err := a.decode(it); err != nil {
		reject(own, err)
		return
	}
	for i, cmd := range a.commands {
		a.at = span{core.Index(ctx.Index), 1}
		a.doing.Set(host.Applying, core.Index(ctx.Index))
		r := a.machine.Apply(ctx, cmd)
		ctx.Index++
		if own != nil {
			own.values[i] = r
		}
	}
	clear(a.commands)
}

// applyBatches applies runs of items whose commands have contiguous indices at once.
func (a *adapter[C, Q, R]) applyBatches(items []core.Item, term uint64) {
	var first core.Index
	begin := 0 // of items
	a.commands = a.commands[:0]
	flush := func(end int) {
		if len(a.commands) > 0 {
			a.applyBatch(items[begin:end], a.context(first, term))
		}
		a.commands = a.commands[:0]
	}
	for i := range items {
		it := &items[i]
		before := len(a.commands)
		if before > 0 && first+core.Index(before) != it.First {
			flush(i)
			before = 0
		}
		if before == 0 {
			first, begin = it.First, i
		}
		a.at = span{first, before + it.Count}
		if err := a.decode(it); err != nil {
			clear(a.commands[before:])
			a.commands = a.commands[:before]
			flush(i)
			if it.Call != nil {
				reject(it.Call.Host.(*host.Call).Results.(*call[C, R]), err)
			}
		}
		a.index = Index(it.First) + Index(it.Count) - 1
	}
	flush(len(items))
}

func (a *adapter[C, Q, R]) applyBatch(items []core.Item, ctx ApplyContext) {
	n := len(a.commands)
	a.at = span{core.Index(ctx.Index), n}
	if cap(a.results) < n {
		a.results = make([]R, n)
	}
	results := a.results[:n]
	a.doing.Set(host.Batching, core.Index(ctx.Index))
	a.batch.ApplyBatch(ctx, a.commands, results)
	at := 0
	for i := range items {
		it := &items[i]
		if it.Call != nil {
			own := it.Call.Host.(*host.Call).Results.(*call[C, R])
			if it.Count == 1 {
				own.value = results[at]
			} else {
				copy(own.values, results[at:at+it.Count])
			}
		}
		at += it.Count
	}
	clear(results)
	clear(a.commands)
}

// Blame implements host.Machine.
func (a *adapter[C, Q, R]) Blame(items []core.Item) (index core.Index, count int, command any) {
	index, count = a.at.first, a.at.count
	defer func() { _ = recover() }() // the codec may be what panicked
	a.commands = nil
	var base core.Index
	for i := range items {
		it := &items[i]
		if it.First+core.Index(it.Count) <= index || it.First >= index+core.Index(count) {
			continue
		}
		if len(a.commands) == 0 {
			base = it.First
		}
		if err := a.decode(it); err != nil {
			return index, count, nil
		}
	}
	cmds := a.commands[index-base:][:count]
	if count == 1 {
		return index, count, cmds[0]
	}
	return index, count, cmds
}

var errPayload = errors.New("the payload does not hold the commands it should")

// decode appends the commands of an item to a.commands.
func (a *adapter[C, Q, R]) decode(it *core.Item) error {
	payload := it.Payload
	for n := range it.Count {
		raw := payload
		if it.Count > 1 {
			size, k := binary.Uvarint(payload)
			if k <= 0 || size > uint64(len(payload)-k) {
				return errPayload
			}
			raw, payload = payload[k:k+int(size)], payload[k+int(size):]
		}
		a.commands = append(a.commands, *new(C))
		if err := a.codec.Decode(raw, &a.commands[len(a.commands)-1]); err != nil {
			return fmt.Errorf("command %d of %d: %w", n+1, it.Count, err)
		}
	}
	if it.Count > 1 && len(payload) > 0 {
		return errPayload
	}
	return nil
}

// reject tells the caller, if it is on this node, that its commands were skipped. All members skip them alike, because
// decoding is deterministic.
func reject[C, R any](own *call[C, R], err error) {
	if own != nil {
		own.Rejected = fmt.Errorf("the codec cannot read back what it wrote: %w", err)
	}
}

// encode appends the payload of the commands to dst.
func encode[C any](c codec.Codec[C], dst []byte, cmds []C) ([]byte, error) {
	if len(cmds) == 1 {
		return c.Append(dst, &cmds[0])
	}
	var scratch []byte
	for i := range cmds {
		var err error
		if scratch, err = c.Append(scratch[:0], &cmds[i]); err != nil {
			return dst, fmt.Errorf("command %d of %d: %w", i+1, len(cmds), err)
		}
		dst = binary.AppendUvarint(dst, uint64(len(scratch)))
		dst = append(dst, scratch...)
	}
	return dst, nil
}
