package member

import "container/list"

// Sessions counts the calls of every session that the log holds. It depends on the log alone: all replicas forget the same
// sessions, those that were silent for longest, when there are too many.
type Sessions struct {
	most int
	by   map[uint64]*list.Element
	use  *list.List // of *session, the latest use last
}

type session struct {
	id    uint64
	calls uint64
}

// sessionsMost is how many sessions are remembered if nothing else is said.
const sessionsMost = 4096

// NewSessions returns an empty table for at most so many sessions, 4096 if most is not positive.
func NewSessions(most int) *Sessions {
	if most <= 0 {
		most = sessionsMost
	}
	return &Sessions{most: most, by: make(map[uint64]*list.Element), use: list.New()}
}

// Calls returns the number of the session's last call, zero if none is known.
func (s *Sessions) Calls(id uint64) uint64 {
	if e := s.by[id]; e != nil {
		return e.Value.(*session).calls
	}
	return 0
}

// Take takes a call in if it is the next one of its session.
func (s *Sessions) Take(id, number uint64) bool {
	e := s.by[id]
	if e == nil {
		if number != 1 {
			return false
		}
		s.set(id, 1)
		return true
	}
	x := e.Value.(*session)
	if number != x.calls+1 {
		return false
	}
	x.calls = number
	s.use.MoveToBack(e)
	return true
}

// set adds a session.
func (s *Sessions) set(id, calls uint64) {
	s.by[id] = s.use.PushBack(&session{id, calls})
	if s.use.Len() > s.most {
		delete(s.by, s.use.Remove(s.use.Front()).(*session).id)
	}
}

// Len returns the number of sessions.
func (s *Sessions) Len() int { return s.use.Len() }

// All calls yield for each session, in the order of their last use.
func (s *Sessions) All(yield func(id, calls uint64) bool) {
	for e := s.use.Front(); e != nil; e = e.Next() {
		if x := e.Value.(*session); !yield(x.id, x.calls) {
			return
		}
	}
}

// Load replaces the content by sessions as All gave them.
func (s *Sessions) Load(each func(yield func(id, calls uint64) bool)) {
	clear(s.by)
	s.use.Init()
	each(func(id, calls uint64) bool {
		s.set(id, calls)
		return true
	})
}

// Clone returns a copy.
func (s *Sessions) Clone() *Sessions {
	c := NewSessions(s.most)
	c.Load(s.All)
	return c
}
