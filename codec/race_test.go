//go:build race

package codec_test

// raceDetector is on: pools then drop things at random, and allocations say nothing.
const raceDetector = true
