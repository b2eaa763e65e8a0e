package config

// minorDigits holds the currencies of ISO 4217 whose minor unit is not a hundredth.
var minorDigits = map[string]int{
	"BIF": 0, "CLP": 0, "DJF": 0, "GNF": 0, "ISK": 0, "JPY": 0, "KMF": 0, "KRW": 0,
	"PYG": 0, "RWF": 0, "UGX": 0, "UYI": 0, "VND": 0, "VUV": 0, "XAF": 0, "XOF": 0, "XPF": 0,
	"BHD": 3, "IQD": 3, "JOD": 3, "KWD": 3, "LYD": 3, "OMR": 3, "TND": 3,
	"CLF": 4, "UYW": 4,
}

// noMinorUnit holds the codes of ISO 4217 that have no minor unit: metals, funds and tests.
var noMinorUnit = map[string]bool{
	"XAG": true, "XAU": true, "XBA": true, "XBB": true, "XBC": true, "XBD": true, "XDR": true,
	"XPD": true, "XPT": true, "XSU": true, "XTS": true, "XUA": true, "XXX": true,
}

// Digits is the number of digits after the decimal point of the pipeline's currency.
func (c Config) Digits() int {
	if c.MinorDigits >= 0 {
		return c.MinorDigits
	}
	if digits, special := minorDigits[c.Currency]; special {
		return digits
	}
	return 2
}
