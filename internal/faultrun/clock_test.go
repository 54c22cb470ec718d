//go:build linux

package faultrun

import (
	"bytes"
	"debug/elf"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"syscall"
	"time"
)

// A process has no wall clock of its own that could be stepped, and the machine's must not be. But each process has its own
// copy of the code with which it reads the clock, in the page that the kernel maps into it (vDSO). stepClock puts code in
// there that adds a number of seconds to the wall clock and leaves the monotonic clock alone, as a step of the real clock does.

// clockCode asks the kernel for the time, and adds what is stored behind it when it was asked for the wall clock:
//
//	mov eax, 228; syscall; test edi, edi; jne end; mov rcx, [seconds]; add [rsi], rcx; end: ret
var clockCode = []byte{
	0xb8, 228, 0, 0, 0, 0x0f, 0x05, 0x85, 0xff, 0x75, 10, 0x48, 0x8b, 0x0d, 6, 0, 0, 0, 0x48, 0x01, 0x0e, 0xc3, 0xcc, 0xcc,
}

const clockBase = 33 // AT_SYSINFO_EHDR

var errNoClock = errors.New("the clock of a process cannot be stepped here")

// stepClock sets by how much the wall clock of a process, which must be stopped, is off from now on, in whole seconds.
func stepClock(pid int, by time.Duration) error {
	if runtime.GOARCH != "amd64" {
		return errNoClock
	}
	proc := "/proc/" + strconv.Itoa(pid)
	aux, err := os.ReadFile(proc + "/auxv")
	if err != nil {
		return err
	}
	var base int64
	for ; len(aux) >= 16; aux = aux[16:] {
		if binary.LittleEndian.Uint64(aux) == clockBase {
			base = int64(binary.LittleEndian.Uint64(aux[8:]))
		}
	}
	mem, err := os.OpenFile(proc+"/mem", os.O_RDWR, 0)
	if err != nil || base == 0 {
		return errors.Join(errNoClock, err)
	}
	defer mem.Close()
	image := make([]byte, 4096*2)
	n, err := mem.ReadAt(image, base)
	if n < 4096 {
		return fmt.Errorf("%w: %w", errNoClock, err)
	}
	f, err := elf.NewFile(bytes.NewReader(image))
	if err != nil {
		return err
	}
	symbols, err := f.DynamicSymbols()
	if err != nil {
		return err
	}
	var clock, room int64 // where the code is that Go calls, and code that it never calls
	for _, s := range symbols {
		switch {
		case s.Name == "__vdso_clock_gettime":
			clock = int64(s.Value)
		case s.Name == "__vdso_gettimeofday" && int(s.Size) >= len(clockCode)+16:
			room = int64(s.Value+7) &^ 7
		}
	}
	if clock == 0 || room == 0 {
		return errNoClock
	}
	code := binary.LittleEndian.AppendUint64(bytes.Clone(clockCode), uint64(int64(by/time.Second)))
	if _, err := mem.WriteAt(code, base+room); err != nil {
		return fmt.Errorf("%w: %w", errNoClock, err)
	}
	jump := binary.LittleEndian.AppendUint32([]byte{0xe9}, uint32(int32(room-clock-5)))
	_, err = mem.WriteAt(jump, base+clock)
	return err
}

// awaitStopped waits until all threads of a process that was sent SIGSTOP are stopped.
func awaitStopped(pid int) error {
	for deadline := time.Now().Add(limit); time.Now().Before(deadline); time.Sleep(time.Millisecond) {
		threads, err := filepath.Glob("/proc/" + strconv.Itoa(pid) + "/task/*/stat")
		if err != nil || len(threads) == 0 {
			return fmt.Errorf("process %d has ended: %w", pid, os.ErrProcessDone)
		}
		all := true
		for _, path := range threads {
			stat, err := os.ReadFile(path)
			if errors.Is(err, os.ErrNotExist) || errors.Is(err, syscall.ESRCH) {
				continue // the thread has ended
			} else if err != nil {
				return err
			}
			i := bytes.LastIndexByte(stat, ')')
			all = all && i > 0 && len(stat) > i+2 && stat[i+2] == 'T'
		}
		if all {
			return nil
		}
	}
	return errors.New("the process does not stop")
}
