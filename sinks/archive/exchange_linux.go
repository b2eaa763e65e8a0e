package archive

import (
	"errors"

	"golang.org/x/sys/unix"
)

// exchangeNames gives two directories each other's name, in one step; errors.ErrUnsupported where the file system cannot.
func exchangeNames(a, b string) error {
	err := unix.Renameat2(unix.AT_FDCWD, a, unix.AT_FDCWD, b, unix.RENAME_EXCHANGE)
	if errors.Is(err, unix.EINVAL) || errors.Is(err, unix.EPERM) { // EPERM is how old sandboxes refuse a call they do not know
		return errors.ErrUnsupported
	}
	return err
}
