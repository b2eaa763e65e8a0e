package archive

import (
	"errors"
	"fmt"
	"io"
	"iter"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/parquet-go/parquet-go"

	"github.com/asiduo/asiduo/state"
)

// Buyer is what a snapshot says of the orders of a customer who has any.
type Buyer struct {
	ID                string
	OrderDays         int64 // distinct calendar days
	FirstDay, LastDay int32 // since 1970-01-01
	Net               int64 // of all orders, in minor units
	Scored            bool
	Chance            float64 // of no order within the horizon, if scored
	Valued            bool
	CLV, AtRisk       int64        // in minor units, if valued
	Ledger            state.Ledger // as stored: at the last evaluation
}

// Newest is the day of the newest published snapshot below a directory.
func Newest(root string) (string, error) {
	days, err := Days(root)
	if err != nil {
		return "", err
	}
	return days[len(days)-1], nil
}

// Days are those of the published snapshots below a directory, in their order, at least one.
func Days(root string) ([]string, error) {
	done, err := filepath.Glob(local(root, folder("*")+"/"+successName))
	if err != nil {
		return nil, err
	}
	if len(done) == 0 {
		return nil, fmt.Errorf("archive: no published snapshot below %s", root)
	}
	days := make([]string, len(done))
	for i, file := range done {
		_, days[i], _ = strings.Cut(filepath.Base(filepath.Dir(file)), "=")
		if err := checkDay(days[i]); err != nil {
			return nil, err
		}
	}
	slices.Sort(days)
	return days, nil
}

// ReadBuyers reads the customers with orders of a published snapshot, part by part, without their ids.
func ReadBuyers(root string, m Manifest) ([]Buyer, error) {
	var buyers []Buyer
	for _, p := range m.Parts {
		for b, err := range Buyers(root, p) {
			if err != nil {
				return nil, err
			}
			b.ID = ""
			buyers = append(buyers, b)
		}
	}
	return buyers, nil
}

// Buyers are the customers with orders of a part, in the order of the ids' bytes.
func Buyers(root string, p Part) iter.Seq2[Buyer, error] {
	return func(yield func(Buyer, error) bool) {
		more := true
		err := readPart(local(root, p.File), func(b Buyer) bool {
			more = yield(b, nil)
			return more
		})
		if err != nil && more {
			yield(Buyer{}, fmt.Errorf("archive %s: %w", p.File, err))
		}
	}
}

func readPart(file string, take func(Buyer) bool) (err error) {
	f, err := os.Open(file)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	r := parquet.NewReader(f)
	defer func() { err = errors.Join(err, r.Close()) }()
	at := map[string]int{}
	for i, path := range r.Schema().Columns() {
		at[path[0]] = i
	}
	for _, name := range []string{"customer_id", "churn_probability", "order_days", "first_order_day", "last_order_day", "net_revenue_lifetime", customerRecord} {
		if _, ok := at[name]; !ok {
			return fmt.Errorf("no column %s: the snapshot is of an older version, take a new one", name)
		}
	}
	clv, valued := at["clv"] // not in older snapshots
	rows := make([]parquet.Row, 256)
	for {
		n, err := r.ReadRows(rows)
		for _, row := range rows[:n] {
			days, chance := row[at["order_days"]], row[at["churn_probability"]]
			if days.IsNull() {
				continue
			}
			b := Buyer{
				ID: row[at["customer_id"]].String(), OrderDays: days.Int64(), FirstDay: row[at["first_order_day"]].Int32(), LastDay: row[at["last_order_day"]].Int32(),
				Net: row[at["net_revenue_lifetime"]].Int64(), Scored: !chance.IsNull(),
			}
			if b.Scored {
				b.Chance = chance.Double()
			}
			if valued && !row[clv].IsNull() {
				b.Valued, b.CLV, b.AtRisk = true, row[clv].Int64(), row[at["value_at_risk"]].Int64()
			}
			var c state.Customer
			if err := c.Decode(row[at[customerRecord]].ByteArray()); err != nil {
				return fmt.Errorf("customer_record of a customer: %w", err)
			}
			b.Ledger = c.Ledger
			if !take(b) {
				return nil
			}
		}
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
	}
}
