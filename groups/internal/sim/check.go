package sim

import (
	"math"
	"strconv"
	"strings"
	"time"

	"github.com/anishathalye/porcupine"
)

// input and output of an operation as the checker sees them.
type input struct{ verb, name, arg string }

type output struct {
	known bool
	value string
}

// model is one register, with reads, writes that answer the old value, and additions that answer the sum.
var model = porcupine.Model{
	Partition: func(history []porcupine.Operation) [][]porcupine.Operation {
		by := make(map[string][]porcupine.Operation)
		for _, o := range history {
			name := o.Input.(input).name
			by[name] = append(by[name], o)
		}
		var out [][]porcupine.Operation
		for _, h := range by {
			out = append(out, h)
		}
		return out
	},
	Init: func() any { return "" },
	Step: func(state, in, out any) (bool, any) {
		have, i, o := state.(string), in.(input), out.(output)
		matches := func(value string) bool { return !o.known || o.value == value }
		switch i.verb {
		case "r":
			return matches(have), have
		case "w":
			return matches(have), i.arg
		default:
			a, _ := strconv.Atoi(have)
			b, _ := strconv.Atoi(i.arg)
			sum := strconv.Itoa(a + b)
			return matches(sum), sum
		}
	},
}

// Linearizable checks a history. An operation whose outcome is not known may have happened at any time after it began.
func Linearizable(history []*Op, limit time.Duration) porcupine.CheckResult {
	var ops []porcupine.Operation
	for _, o := range history {
		part := strings.Fields(o.Cmd)
		in := input{verb: part[0], name: part[1]}
		if len(part) > 2 {
			in.arg = part[2]
		}
		x := porcupine.Operation{ClientId: o.Client, Input: in, Call: int64(o.Begin), Return: int64(o.End)}
		switch {
		case o.OK:
			x.Output = output{true, o.Out}
		case o.Maybe || !o.Done:
			if in.verb == "r" {
				continue
			}
			x.Output, x.Return = output{}, math.MaxInt64
		default:
			continue // did not happen
		}
		ops = append(ops, x)
	}
	return porcupine.CheckOperationsTimeout(model, ops, limit)
}
