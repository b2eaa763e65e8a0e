package main

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestDealOf(t *testing.T) {
	for value, want := range map[string]deal{
		`{"amount":"90","discount":"10","coupon":""}`:           {false, 10, 100},
		`{"amount":90.5,"discount":9.5}`:                        {false, 9.5, 100},
		`{"amount":"90","coupon":"SPRING"}`:                     {true, 0, 90},
		`{"amount":"90","coupon":" "}`:                          {false, 0, 90},
		`{"amount":"90","coupon":7,"discount":"a lot"}`:         {false, 0, 90},
		`{"amount":"90","discount":-3}`:                         {false, 0, 90},
		`{"amount":"90","discount":1e999,"coupon":null}`:        {false, 0, 90},
		`{"amount":"90","discount":{"of":"10"},"coupon":["x"]}`: {false, 0, 90},
	} {
		if got, told := dealOf([]byte(value)); !told || got != want {
			t.Errorf("%s: %+v %t, want %+v", value, got, told, want)
		}
	}
	if _, told := dealOf([]byte(`{"amount":"90"}`)); told {
		t.Error("told of nothing")
	}
}

// TestReportPromotions: orders with a coupon or a discount, in their newest version, and the types of those who place them.
func TestReportPromotions(t *testing.T) {
	var b strings.Builder
	b.WriteString("Kunde,Datum,Summe,Nr,Gutschein,Rabatt\n")
	row := func(who string, n int, coupon, discount string) {
		fmt.Fprintf(&b, "%s,2024-%02d-01 10:00:00,10.00,%s-%d,%s,%s\n", who, n+1, who, n, coupon, discount)
	}
	for n := range 8 {
		row("hunter", n, "", "5") // a third of the price
		row("lover", n, "", "0.1")
		row("other", n, []string{"", "SPRING"}[n%2], "")
	}
	b.WriteString("other,2024-02-01 10:00:00,10.00,other-1,,\n") // the coupon was taken off again
	file, page := written(t, "shop.csv", b.String()), filepath.Join(t.TempDir(), "report.html")
	args := append([]string{"report", "--input", file, "--column", "order_id=Nr", "--column", "coupon=Gutschein", "--column", "discount=Rabatt"}, smallColumns...)
	got := command(t, append(args, "--json", "-", "--html", page)...)
	var s Summary
	if got.code != exitGood || json.Unmarshal([]byte(got.out), &s) != nil {
		t.Fatalf("%d %s%s", got.code, got.out, got.err)
	}
	p := s.Promotions
	if p == nil || p.Orders.Of != 11 || p.Orders.All != 24 || p.Revenue.Of != 110 || p.Revenue.All != 240 || s.Discount != .05 || len(s.Missing) != 0 {
		t.Fatalf("%+v, missing %v", p, s.Missing)
	}
	for i, want := range []string{"opportunist", "brand_lover", "mixed"} {
		if x := p.Types[i]; x.Type != want || x.Customers.Of != 1 || x.Orders.Of != 8 || x.Revenue.Of != 80 {
			t.Errorf("%+v, want one %s", x, want)
		}
	}
	text := command(t, args...)
	for _, part := range []string{"a discount of 5 % of the price or more): 0.4583 (11 of 24), with 0.4583 of the revenue", "opportunist          1  0.3333       8"} {
		if !strings.Contains(text.out, part) {
			t.Errorf("no %q in %s", part, text.out)
		}
	}
	html, err := os.ReadFile(page)
	if err != nil || !strings.Contains(string(html), "<td>brand_lover</td><td>1</td><td>33.3 %</td>") || strings.Contains(string(html), "Not in this input") {
		t.Errorf("%v: %s", err, html)
	}
	// The ledger says which version counts: the one with the coupon is the newer, and was written first. 60 cents are five per cent of 12.00.
	versions := written(t, "shop.csv", "Kunde,Datum,Summe,Nr,Gutschein,Rabatt,Rev\n"+
		"a,2024-01-01 10:00:00,10.00,a-1,SPRING,,2\na,2024-01-01 10:00:00,10.00,a-1,,,1\nb,2024-01-02 10:00:00,11.40,b-1,,0.60,1\nb,2024-01-03 10:00:00,11.40,b-2,,0.59,1\n")
	got = command(t, append([]string{"report", "--input", versions, "--column", "order_id=Nr", "--column", "coupon=Gutschein", "--column", "discount=Rabatt", "--column", "revision=Rev", "--json", "-"}, smallColumns...)...)
	if s = (Summary{}); got.code != exitGood || json.Unmarshal([]byte(got.out), &s) != nil || s.Promotions == nil || s.Promotions.Orders.Of != 2 || s.Promotions.Orders.All != 3 {
		t.Errorf("%s%s", got.out, got.err)
	}
	if got := command(t, append(args, "--promotion", "0.5", "--json", "-")...); !strings.Contains(got.out, `"numerator": 19,`) {
		t.Errorf("at half a per cent: %s", got.out)
	}
	refused(t, exitUsage, "--promotion is per cent, from 0 to 100, found 101", append(args, "--promotion", "101")...)
}
