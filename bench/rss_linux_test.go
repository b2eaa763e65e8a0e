package bench

import (
	"os"
	"syscall"
)

// maxRSS is the greatest resident memory of a process that has ended, in bytes.
func maxRSS(s *os.ProcessState) int64 {
	if u, ok := s.SysUsage().(*syscall.Rusage); ok {
		return int64(u.Maxrss) << 10
	}
	return 0
}
