package pipeline

import (
	"bytes"
	"fmt"
	"runtime"
	"strings"
	"testing"
	"weak"
)

// quickAgrees holds the quick reader against the strict one; it says whether the quick one has read all.
func quickAgrees(t *testing.T, b []byte) bool {
	t.Helper()
	d := testDecoder()
	var found [fields]value
	if !d.quick.scan(b, &found) {
		return false
	}
	if err := d.strict(b); err != nil {
		t.Fatalf("%q is read, and the strict reader says %v", b, err)
	}
	for f := range found {
		if is, should := found[f], d.found[f]; is.kind != should.kind || !bytes.Equal(is.text, should.text) {
			t.Fatalf("%q: %s is %q %q and should be %q %q", b, fieldNames[f], is.kind, is.text, should.kind, should.text)
		}
	}
	return true
}

// FuzzScan takes any text: what the quick reader reads, the strict one reads alike.
func FuzzScan(f *testing.F) {
	for _, text := range append(quickTexts(), otherTexts()...) {
		f.Add([]byte(text))
	}
	f.Fuzz(func(t *testing.T, b []byte) { quickAgrees(t, b) })
}

// quickTexts are what the quick reader must read, or it is of no use.
func quickTexts() []string {
	return []string{
		`{}`, ` { } `, `{"type":null}`, "\n{\t\"order_id\" : \"o-1\" ,\r\"amount\":\"1.50\"} ",
		`{"order_id":"o-1","customer_id":"c","ordered_at":"2023-01-01T00:01:05Z","amount":27.79,"currency":"EUR","test":true,"revision":1,"items":[{"sku":"a","quantity":1},{"sku":"b","quantity":2.5e-3}]}`,
		`{"fx":{"rate":"1.1","base_currency":"EUR","more":[]},"properties":{"purpose":"mail","status":"granted"}}`,
		`{"fx":"none","properties":[1,-0,0.5,1E+9,false,null,{"fx":{"rate":1}}]}`,
		`{"properties":{"purpose":{"status":1}},"status":{}}`,
		`{"customer_id":"Zoë","note":"żółw 🐢"}`, `{"amount":"","refunded":0}`, `{"":1}`,
	}
}

// otherTexts are for the strict reader: wrong, or not plain.
func otherTexts() []string {
	members := make([]string, quickMembers+1)
	for i := range members {
		members[i] = fmt.Sprintf(`"m%d":%d`, i, i)
	}
	return []string{
		``, ` `, `[]`, `"a"`, `null`, `{`, `{"a"`, `{"a":`, `{"a":}`, `{"a":1`, `{"a":1,`, `{"a":1,}`, `{,}`, `{"a" 1}`, `{a:1}`, `{"a":1}}`, `{"a":1} x`, `{"a":1}{}`,
		`{"a":01}`, `{"a":-}`, `{"a":+1}`, `{"a":.5}`, `{"a":1.}`, `{"a":1e}`, `{"a":1e+}`, `{"a":0x1}`, `{"a":1 2}`, `{"a":tru}`, `{"a":truee}`, `{"a":nul}`, `{"a":True}`, `{"a":NaN}`,
		`{"a":[1,]}`, `{"a":[,1]}`, `{"a":[1 2]}`, `{"a":[1}`, `{"a":{"b":1]}`, `{"a":"x}`, "{\"a\":\"x\ny\"}", "{\"a\":\"x\x00\"}", `{"a":"\x"}`,
		"{\"a\":\"\xff\"}", "{\"a\xc3\":1}", "{\"a\":\"\xed\xa0\x80\"}", "\ufeff{}", "{}\v", "{\u00a0}",
		`{"a":1,"a":2}`, `{"order_id":"a","order_id":"b"}`, `{"items":[{"sku":"a","sku":"b"}]}`, `{"fx":{"rate":1,"rate":2}}`,
		`{"customer_id":"\u0063"}`, `{"customer\u005fid":"c"}`, `{"note":"a\\b"}`, // right, but not plain
		`{` + strings.Join(members, ",") + `}`, `{"a":` + strings.Repeat(`[`, quickDepth) + strings.Repeat(`]`, quickDepth) + `}`,
	}
}

// TestQuick holds what the quick reader must read and what it must not.
func TestQuick(t *testing.T) {
	for _, text := range quickTexts() {
		if !quickAgrees(t, []byte(text)) {
			t.Errorf("%q is not read", text)
		}
		for cut := range len(text) - 1 { // nor any part of it
			quickAgrees(t, []byte(text[:cut]))
		}
	}
	for _, text := range otherTexts() {
		if quickAgrees(t, []byte(text)) {
			t.Errorf("%q is read", text)
		}
	}
}

// TestQuickLetsGo reads a record of many names and then one of few: nothing of the first is kept for the names that it had more.
func TestQuickLetsGo(t *testing.T) {
	var d decoder
	read := func(text string) weak.Pointer[byte] {
		b := append(make([]byte, 0, 1<<20), text...)
		if d.found = [fields]value{}; !d.quick.scan(b, &d.found) {
			t.Fatalf("%q is not read", text)
		}
		return weak.Make(&b[0])
	}
	first := read(`{"a":1,"b":{"c":2,"d":{"e":3}}}`)
	second := read(`{"a":1}`)
	runtime.GC()
	if first.Value() != nil {
		t.Error("the first record is kept")
	}
	if second.Value() == nil {
		t.Error("this shows nothing: the second is not kept either")
	}
	runtime.KeepAlive(&d)
}
