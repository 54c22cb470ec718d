// Command bench measures streams against an embedded NATS server: the same payloads, in one process, on loopback, in one
// run, and prints the ratios. It is a module of its own so that nobody else has to download a NATS server.
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
	fmt.Printf("%s, %d CPUs, load %s\n\n", runtime.Version(), runtime.NumCPU(), load())

	fmt.Println("throughput: million deliveries a second (CPU ns for each delivery)")
	header(systems, "bytes x consumers")
	for _, size := range numbers(*sizes) {
		for _, fan := range numbers(*fans) {
			row(fmt.Sprintf("%d x %d", size, fan), systems, func(s system) (float64, string) {
				r, err := s.rate(size, fan, *each)
				if err != nil {
					return 0, "failed: " + err.Error()
				}
				rate := float64(r.deliveries) / r.took.Seconds() / 1e6
				return rate, fmt.Sprintf("%.3f (%.0f)", rate, float64(r.cpu)/float64(r.deliveries))
			})
		}
	}
	fmt.Println("\nlatency of structs, one consumer: p50 / p99 / worst, microseconds")
	header(systems, "items a second")
	for _, rate := range numbers(*rates) {
		row(strconv.Itoa(rate), systems, func(s system) (float64, string) {
			h := hdrhistogram.New(100, int64(time.Minute), 3)
			if err := s.latency(rate, *each, h); err != nil {
				return 0, "failed: " + err.Error()
			}
			us := func(ns int64) float64 { return float64(ns) / 1e3 }
			return 1 / us(h.ValueAtQuantile(50)), fmt.Sprintf("%.0f / %.0f / %.0f", us(h.ValueAtQuantile(50)), us(h.ValueAtQuantile(99)), us(h.Max()))
		})
	}
}

func header(systems []system, first string) {
	fmt.Printf("%-18s", first)
	for _, s := range systems {
		fmt.Printf(" %22s", s.name())
	}
	fmt.Printf(" %12s %12s\n", "tcp/nats", "tcp/nats+tls")
}

// row measures all systems once and prints the ratio of the first to the last two.
func row(what string, systems []system, measure func(system) (float64, string)) {
	fmt.Printf("%-18s", what)
	values := make([]float64, len(systems))
	for i, s := range systems {
		runtime.GC()
		var text string
		values[i], text = measure(s)
		fmt.Printf(" %22s", text)
	}
	n := len(values)
	fmt.Printf(" %12.2f %12.2f\n", values[0]/values[n-2], values[0]/values[n-1])
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
