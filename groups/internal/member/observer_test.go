package member

import "testing"

// An observer that saved a group votes until somebody else can, and no longer.
func TestObserverThatVotes(t *testing.T) {
	t.Parallel()
	saviour := State{ID: 1, Voter: true, Observer: true, Leader: true}
	newcomer := State{ID: 2, Healthy: true, CaughtUp: true}
	if op, ok := Plan([]State{saviour}, 5); ok {
		t.Errorf("alone: %+v", op)
	}
	if op, ok := Plan([]State{saviour, newcomer}, 5); !ok || op.Kind != Promote || op.Member.ID != 2 {
		t.Errorf("with another: %+v, %v", op, ok)
	}
	newcomer.Voter, newcomer.Leader = true, true
	saviour.Leader, saviour.Healthy = false, true
	all := []State{saviour, newcomer}
	if Calm(all, 5) {
		t.Error("an observer that votes is taken for how it should be")
	}
	if op, ok := Plan(all, 5); !ok || op.Kind != Demote || op.Member.ID != 1 {
		t.Errorf("with another that leads: %+v, %v", op, ok)
	}
}
