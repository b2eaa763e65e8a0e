package archive

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/parquet-go/parquet-go"
)

// Buyer is what a snapshot says of the orders of a customer who has any.
type Buyer struct {
	OrderDays         int64 // distinct calendar days
	FirstDay, LastDay int32 // since 1970-01-01
	Net               int64 // of all orders, in minor units
}

// Newest is the day of the newest published snapshot below a directory.
func Newest(root string) (string, error) {
	done, err := filepath.Glob(local(root, folder("*")+"/"+successName))
	if err != nil {
		return "", err
	}
	if len(done) == 0 {
		return "", fmt.Errorf("archive: no published snapshot below %s", root)
	}
	_, day, _ := strings.Cut(filepath.Base(filepath.Dir(slices.Max(done))), "=")
	return day, checkDay(day)
}

// ReadBuyers reads the customers with orders of a published snapshot, part by part.
func ReadBuyers(root string, m Manifest) ([]Buyer, error) {
	var buyers []Buyer
	for _, p := range m.Parts {
		var err error
		if buyers, err = readPart(local(root, p.File), buyers); err != nil {
			return nil, fmt.Errorf("archive %s: %w", p.File, err)
		}
	}
	return buyers, nil
}

func readPart(file string, buyers []Buyer) (_ []Buyer, err error) {
	f, err := os.Open(file)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	r := parquet.NewReader(f)
	defer func() { err = errors.Join(err, r.Close()) }()
	at := map[string]int{}
	for i, path := range r.Schema().Columns() {
		at[path[0]] = i
	}
	for _, name := range []string{"order_days", "first_order_day", "last_order_day", "net_revenue_lifetime"} {
		if _, ok := at[name]; !ok {
			return nil, fmt.Errorf("no column %s: the snapshot is of an older version, take a new one", name)
		}
	}
	rows := make([]parquet.Row, 256)
	for {
		n, err := r.ReadRows(rows)
		for _, row := range rows[:n] {
			if days := row[at["order_days"]]; !days.IsNull() {
				buyers = append(buyers, Buyer{days.Int64(), row[at["first_order_day"]].Int32(), row[at["last_order_day"]].Int32(), row[at["net_revenue_lifetime"]].Int64()})
			}
		}
		if err == io.EOF {
			return buyers, nil
		}
		if err != nil {
			return nil, err
		}
	}
}
