package groups

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"sync"

	"github.com/mosaik-go/mosaik"
	"github.com/mosaik-go/mosaik/codec"
	"github.com/mosaik-go/mosaik/groups/internal/bond"
	"github.com/mosaik-go/mosaik/groups/internal/core"
	"github.com/mosaik-go/mosaik/groups/internal/host"
	"github.com/mosaik-go/mosaik/groups/logstore"
	"github.com/mosaik-go/mosaik/id"
	"github.com/mosaik-go/mosaik/internal/node"
)

// Group is a handle to a group that this node takes part in. All methods are safe for concurrent use.
type Group[C, Q, R any] struct {
	*instance[C, Q, R]
	host *host.Group

	closing sync.Once
	done    chan struct{} // closed with the handle
	gone    chan struct{} // closed when Close has ended

	closeErr error // set before gone is closed
}

// instance is the node's part in a group, shared by all handles to it.
type instance[C, Q, R any] struct {
	service   *host.Service
	self      id.PeerID
	machine   *adapter[C, Q, R]
	kind      reflect.Type // of the machine
	codec     codec.Codec[C]
	consensus Consensus
	pools     pools[C, R]
}

// Limits of the calls of one member that are under way; further ones wait in line.
const (
	maxCalls     = 1024
	maxCallBytes = 8 << 20
)

// Join makes the node a member of the group that the key and the settings stand for, and returns a handle to it. It
// returns at once: finding other members, founding the group if there is none, and catching up go on in the background.
// Wait with Group.When().Online before the first command if you like; calls wait by themselves.
//
// newMachine makes a machine in its initial state, not nil; it may be called more than once. All type parameters are inferred:
// groups.Join(net, key, NewCounter). Close the handle when done with it; closing net closes it too.
//
// A node is at most once in a group. If it is there already, Join returns another handle that shares the machine that is
// there. That fails with [ErrTypeMismatch] if the machine's type or the codec differ. If the last handle is just being
// closed, Join waits until the departure is over, a few seconds at most.
func Join[M Machine[C, Q, R], C, Q, R any](net *mosaik.Network, key Key, newMachine func() M, opts ...Option) (*Group[C, Q, R], error) {
	if net == nil || newMachine == nil {
		return nil, errors.New("groups: join: the network or the machine's constructor is nil")
	}
	if key.IsZero() {
		return nil, errors.New("groups: join: the key is the zero value")
	}
	o := options{expect: 1}
	for i, opt := range opts {
		if opt == nil {
			return nil, fmt.Errorf("groups: join: option %d is nil", i)
		}
		if err := opt(&o); err != nil {
			return nil, err
		}
	}
	o.consensus = o.consensus.withDefaults()
	if err := o.consensus.validate(); err != nil {
		return nil, err
	}
	if o.available != 0 && o.available < o.consensus.ElectionTimeout {
		return nil, fmt.Errorf("groups: AvailabilityFirst: %v is less than the election timeout, %v", o.available, o.consensus.ElectionTimeout)
	}
	commands, err := commandCodec[C](o.codec)
	if err != nil {
		return nil, err
	}
	resolve, err := resolver(o.resolve, commands)
	if err != nil {
		return nil, fmt.Errorf("groups: join: %w", err)
	}
	n := net.Node()
	if o.storage == nil {
		if o.storage = n.Storage; o.storage == nil {
			o.storage = logstore.Memory()
		}
	}
	first := newMachine()
	if isNil(first) {
		return nil, errors.New("groups: join: newMachine returned nil")
	}
	_, snapshots := any(first).(Snapshotter)
	o.retention = o.retention.withDefaults()
	if err := o.retention.validate(); err != nil {
		return nil, err
	}
	gid := identity(key, first.Signature(), &o)

	service, err := node.Attach(n, "groups", host.Start)
	if err != nil {
		return nil, fmt.Errorf("groups: join %s: %w", gid.Short(), closedError(err))
	}
	kind := reflect.TypeFor[M]()
	build := func() (host.Machine, any) {
		fresh := func() Machine[C, Q, R] {
			m := newMachine()
			if isNil(m) {
				panic("groups: newMachine returned nil")
			}
			return m
		}
		a := newAdapter(commands, fresh, Machine[C, Q, R](first))
		a.group, a.network = gid, n.Network
		return a, &instance[C, Q, R]{
			service: service, self: n.ID(), machine: a, kind: kind, codec: commands, consensus: o.consensus,
		}
	}
	cfg := hostConfig(gid, key, &o, schemaOf(commands))
	cfg.Engine.Snapshots = snapshots
	cfg.Engine.Merge, cfg.Engine.Resolve, cfg.Engine.AvailabilityFirst = o.merge, resolve, o.available
	g, owner, err := service.Join(cfg, build)
	if err != nil {
		return nil, fmt.Errorf("groups: join %s: %w", gid.Short(), err)
	}
	shared, ok := owner.(*instance[C, Q, R])
	if !ok || shared.kind != kind || shared.codec.Name() != commands.Name() || shared.codec.Fingerprint() != commands.Fingerprint() {
		service.Release(g)
		return nil, fmt.Errorf("%w: group %s has a machine of type %v", ErrTypeMismatch, gid.Short(), kindOf(owner))
	}
	return &Group[C, Q, R]{
		instance: shared,
		host:     g,
		done:     make(chan struct{}),
		gone:     make(chan struct{}),
	}, nil
}

// isNil reports whether a machine is a nil interface or a nil pointer.
func isNil(machine any) bool {
	v := reflect.ValueOf(machine)
	return machine == nil || v.Kind() == reflect.Pointer && v.IsNil()
}

// commandCodec returns the codec that was asked for, or the default one.
func commandCodec[C any](chosen any) (codec.Codec[C], error) {
	if chosen == nil {
		c, err := codec.For[C]()
		if err != nil {
			return nil, fmt.Errorf("groups: join: commands of type %v: %w", reflect.TypeFor[C](), err)
		}
		return c, nil
	}
	c, ok := chosen.(codec.Codec[C])
	if !ok {
		return nil, fmt.Errorf("%w: WithCodec has a %T, commands are %v", ErrTypeMismatch, chosen, reflect.TypeFor[C]())
	}
	return c, nil
}

// hostConfig puts together what the driver needs.
func hostConfig(gid id.ID, key Key, o *options, s schema) host.GroupConfig {
	c := &o.consensus
	return host.GroupConfig{
		ID:      gid,
		Storage: o.storage,
		Schema:  s.check,
		Engine: core.Config{
			Preference:      core.Preference(o.preference),
			Expect:          o.expect,
			Heartbeat:       c.Heartbeat,
			ElectionTimeout: c.ElectionTimeout,
			BootstrapDelay:  c.BootstrapDelay,
			VolatileRemoval: c.RemoveAfter,
			DurableRemoval:  c.RemoveDurableAfter,
			Patience:        c.Patience,
			MaxVoters:       c.MaxVoters,
			MaxInflight:     4,
			MaxEntryBytes:   MaxCallBytes,
			MaxPendingCalls: maxCalls,
			MaxPendingBytes: maxCallBytes + MaxCallBytes,
			MaxUncommitted:  64 << 20,
			ChunkBytes:      o.retention.Chunk,
			KeepEntries:     o.retention.Keep,
			MostEntries:     o.retention.Most,
			MostBytes:       o.retention.MostBytes,
		},
		Bond: bond.Local{
			Secret:      key.proofSecret(),
			Codec:       s.codec,
			Fingerprint: s.fingerprint,
			Authorize:   authorizer(o.validators),
		},
		MaxCalls: maxCalls,
		MaxBytes: maxCallBytes,
	}
}

func kindOf(owner any) reflect.Type {
	if k, ok := owner.(interface{ machineType() reflect.Type }); ok {
		return k.machineType()
	}
	return nil
}

func (i *instance[C, Q, R]) machineType() reflect.Type { return i.kind }

// closedError makes a closed network match [ErrClosed].
func closedError(err error) error {
	if errors.Is(err, node.ErrClosed) {
		return fmt.Errorf("%w: %w", ErrClosed, err)
	}
	return err
}

// ID returns the id of the group, which is public. It depends on the key, the machine's signature, the consensus settings,
// the number of members expected and the ticket validators; members of one group have all of these in common.
func (g *Group[C, Q, R]) ID() id.ID { return g.host.ID() }

// Consensus returns the settings of the group, with defaults filled in.
func (g *Group[C, Q, R]) Consensus() Consensus { return g.consensus }

// usable says why the handle cannot be used, or ctx is over.
func (g *Group[C, Q, R]) usable(ctx context.Context) error {
	select {
	case <-g.done:
		return ErrClosed
	default:
	}
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return nil
}

// Close gives up the handle; its methods fail with [ErrClosed] from then on, and waits of When and Events end. Other
// handles of this node to the group go on. The last one leaves the group: leadership is handed over, the others remove
// this member, and calls under way end first. A member that is alone takes in those that it has a bond with and that are
// about to join, so that they have what it acknowledged; if there are none, a group in memory ends with it. All that is
// waited for, for five seconds at most; the network's Close does the same for all groups. With durable storage the
// membership stays, for the next start: only [Group.Leave] ends it. Close is idempotent, and every call returns after the
// end, with the same error.
//
// The only error is [ErrMachineBusy]: the group is over, but a method of the machine has not returned. What is left is
// done when it returns.
func (g *Group[C, Q, R]) Close() error {
	g.closing.Do(func() {
		close(g.done)
		g.closeErr = g.service.Release(g.host)
		close(g.gone)
	})
	<-g.gone
	return g.closeErr
}

// Leave takes the node out of the group for all of its handles, which fail with [ErrClosed] from then on, and closes this
// one. It returns an error if the others did not acknowledge the departure before ctx ended; this node has left all the
// same, and the others will remove it as unreachable. What a durable store holds of the group is deleted.
//
// A group that has failed on this node cannot tell the others that it leaves. Leave then does what Close does, and returns an
// error that wraps the one of Status().Failed: a durable log stays, and with it the membership, until the group is joined
// again and left, or the others give the member up. A method of the
// machine that is just running is waited for until ctx ends and a second longer; then the error wraps [ErrMachineBusy].
func (g *Group[C, Q, R]) Leave(ctx context.Context) error {
	err := g.service.Leave(ctx, g.host)
	g.Close()
	return err
}
