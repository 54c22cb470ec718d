// Command bench measures streams against an embedded NATS server: the same payloads, in one process, on loopback, in one
// run, and prints the ratios, as tables in Markdown. It is a module of its own so that nobody else has to download a NATS server.
//
//	cd bench && go run . [-time 2s] [-sizes 100,1024] [-fan 1,16] [-rates 20000,200000]
//
// Both sides encode and decode a 100-byte struct with this module's codec, and pass other payloads on as bytes. A mosaik
// connection is always TLS 1.3; so there are two columns for NATS, as it usually runs, and with TLS. The machine is shared
// by all parties of a measurement, so CPU time per delivery says more than the rate when it is not idle.
package main

import (
	"flag"
	"fmt"
	"log"
	"os"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
)

// quote is a struct of about 100 bytes.
type quote struct {
	Symbol                [8]byte
	Bid, Ask, Last        float64
	BidSize, AskSize, Vol uint32
	Time                  int64
	Seq                   uint64
	Venue                 [16]byte
	Flags                 uint32
	Note                  [16]byte
}

// system is a party of the comparison.
type system interface {
	name() string
	// rate publishes items of the size to so many consumers for the time.
	rate(size, consumers int, d time.Duration) (result, error)
	// latency publishes structs at a pace and records how long they take, in nanoseconds.
	latency(perSecond int, d time.Duration, h *hdrhistogram.Histogram) error
}

// result is what came of a measurement, without what it took to set it up.
type result struct {
	deliveries int
	took, cpu  time.Duration
}

// structSize is the size that stands for the struct.
const structSize = 100

func main() {
	log.SetFlags(0)
	each := flag.Duration("time", 2*time.Second, "time of each measurement")
	sizes := flag.String("sizes", "16,100,1024,65536", "payload sizes; 100 is a struct")
	fans := flag.String("fan", "1,4,16,64", "numbers of consumers")
	rates := flag.String("rates", "20000,200000", "paces for the latency, items a second")
	flag.Parse()
	systems := []system{mosaikOver("tcp"), mosaikOver("quic"), mosaikOver("local"), natsServer(false), natsServer(true)}
	fmt.Printf("%s, %s, %d CPUs; load average %s at the beginning; %v for each measurement.\n\n",
		runtime.Version(), processor(), runtime.NumCPU(), load(), *each)

	fmt.Print("Million deliveries a second (CPU ns for each), and how many times better we are: by rate (by CPU).\n\n")
	header(systems, "payload x consumers")
	for _, size := range numbers(*sizes) {
		for _, fan := range numbers(*fans) {
			row(fmt.Sprintf("%s x %d", bytes(size), fan), systems, func(s system) (speed, cost float64, text string) {
				r, err := s.rate(size, fan, *each)
				if err != nil {
					return 0, 0, "failed: " + err.Error()
				}
				speed = float64(r.deliveries) / r.took.Seconds() / 1e6
				cost = float64(r.cpu) / float64(r.deliveries)
				return speed, cost, fmt.Sprintf("%s (%s)", short(speed), thousands(cost))
			})
		}
	}
	fmt.Print("\nLatency of structs, one consumer, us: p50 / p99 / worst, and how many times shorter our p50 is.\n\n")
	header(systems, "items a second")
	for _, rate := range numbers(*rates) {
		row(thousands(float64(rate)), systems, func(s system) (speed, cost float64, text string) {
			h := hdrhistogram.New(100, int64(time.Minute), 3)
			if err := s.latency(rate, *each, h); err != nil {
				return 0, 0, "failed: " + err.Error()
			}
			us := func(ns int64) float64 { return float64(ns) / 1e3 }
			return 1 / us(h.ValueAtQuantile(50)), 0, fmt.Sprintf("%s / %s / %s",
				thousands(us(h.ValueAtQuantile(50))), thousands(us(h.ValueAtQuantile(99))), thousands(us(h.Max())))
		})
	}
	fmt.Printf("\nLoad average %s at the end.\n", load())
}

// header begins a table in Markdown.
func header(systems []system, first string) {
	fmt.Printf("| %s |", first)
	for _, s := range systems {
		fmt.Printf(" %s |", s.name())
	}
	fmt.Printf(" tcp : nats | tcp : nats+tls |\n|%s\n", strings.Repeat("---|", len(systems)+3))
}

// row measures all systems once and prints how the first compares with the last two: by speed and, where it is known, by cost.
func row(what string, systems []system, measure func(system) (speed, cost float64, text string)) {
	fmt.Printf("| %s |", what)
	speeds, costs := make([]float64, len(systems)), make([]float64, len(systems))
	for i, s := range systems {
		runtime.GC()
		var text string
		speeds[i], costs[i], text = measure(s)
		fmt.Printf(" %s |", text)
	}
	for i := len(systems) - 2; i < len(systems); i++ {
		fmt.Printf(" %.2f", speeds[0]/speeds[i])
		if costs[0] > 0 {
			fmt.Printf(" (%.2f)", costs[i]/costs[0])
		}
		fmt.Print(" |")
	}
	fmt.Println()
}

func bytes(n int) string {
	switch {
	case n == structSize:
		return "100 B struct"
	case n%1024 == 0:
		return fmt.Sprintf("%d KiB", n/1024)
	default:
		return fmt.Sprintf("%d B", n)
	}
}

// short prints a rate with three digits or so.
func short(v float64) string {
	if v < 0.1 {
		return fmt.Sprintf("%.4f", v)
	}
	return fmt.Sprintf("%.2f", v)
}

// thousands prints a number without fraction, in groups of digits.
func thousands(v float64) string {
	digits := strconv.FormatFloat(v, 'f', 0, 64)
	for i := len(digits) - 3; i > 0; i -= 3 {
		digits = digits[:i] + "," + digits[i:]
	}
	return digits
}

func numbers(list string) (out []int) {
	for _, text := range strings.Split(list, ",") {
		n, err := strconv.Atoi(text)
		if err != nil || n < 1 {
			log.Fatalf("%q is not a number above zero", text)
		}
		out = append(out, n)
	}
	return out
}

func cpuTime() time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// processor returns the model of the machine's processor.
func processor() string {
	b, _ := os.ReadFile("/proc/cpuinfo")
	for _, line := range strings.Split(string(b), "\n") {
		if name, value, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(name) == "model name" {
			return strings.TrimSpace(value)
		}
	}
	return runtime.GOARCH
}

func load() string {
	b, err := os.ReadFile("/proc/loadavg")
	if err != nil {
		return "unknown"
	}
	return strings.Fields(string(b))[0]
}

// pace calls send so many times a second for the time.
func pace(perSecond int, d time.Duration, send func() error) error {
	start := time.Now()
	for sent := 0; ; {
		elapsed := time.Since(start)
		if elapsed > d {
			return nil
		}
		for due := int(elapsed.Seconds() * float64(perSecond)); sent < due; sent++ {
			if err := send(); err != nil {
				return err
			}
		}
		time.Sleep(50 * time.Microsecond)
	}
}
