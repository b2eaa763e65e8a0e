package config

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"regexp"
	"strconv"
	"strings"
)

var topicName = regexp.MustCompile(`^[a-zA-Z0-9._-]{1,249}$`)

// steps splits a path into keys and positions in lists.
func steps(path string) []string {
	return strings.FieldsFunc(path, func(r rune) bool { return r == '.' || r == '[' || r == ']' })
}

// hostPort splits an address and says in words what is wrong with it.
func hostPort(address string) (host string, port int, fault string) {
	host, text, err := net.SplitHostPort(address)
	if err != nil {
		return "", 0, fmt.Sprintf("%q is not host:port", address)
	}
	port, err = strconv.Atoi(text)
	if err != nil || port < 0 || port > 65535 {
		return "", 0, fmt.Sprintf("%q has no port between 0 and 65535", address)
	}
	if strings.ContainsAny(host, " ,/") {
		return "", 0, fmt.Sprintf("%q is not host:port", address)
	}
	return host, port, ""
}

func loopback(host string) bool {
	if host == "localhost" {
		return true
	}
	ip, err := netip.ParseAddr(host)
	return err == nil && ip.Unmap().IsLoopback()
}

func (r checker) kafka() {
	local := true
	for i, broker := range r.c.Kafka.Brokers {
		host, port, fault := hostPort(broker)
		if fault == "" && (host == "" || port == 0) {
			fault = fmt.Sprintf("%q needs a host and a port", broker)
		}
		if strings.Contains(broker, ",") {
			fault = fmt.Sprintf("%q holds a comma; each broker is an entry of its own", broker)
		}
		r.need(fault == "", fault, index("kafka.brokers", i))
		local = local && (fault != "" || loopback(host))
	}
	tls := r.c.Kafka.TLS
	for _, file := range []struct{ key, value string }{{"ca_file", tls.CAFile}, {"cert_file", tls.CertFile}, {"key_file", tls.KeyFile}, {"server_name", tls.ServerName}} {
		r.need(file.value == "" || tls.Enabled, "has no effect while kafka.tls.enabled is false", "kafka.tls."+file.key, "kafka.tls.enabled")
	}
	r.need(tls.CertFile == "" || tls.KeyFile != "", "needs kafka.tls.key_file", "kafka.tls.cert_file", "kafka.tls.key_file")
	r.need(tls.KeyFile == "" || tls.CertFile != "", "needs kafka.tls.cert_file", "kafka.tls.key_file", "kafka.tls.cert_file")
	r.sasl(local)
}

func (r checker) sasl(local bool) {
	sasl := r.c.Kafka.SASL
	for _, k := range []struct{ key, value string }{
		{"username", sasl.Username}, {"password", string(sasl.Password)}, {"password_file", sasl.PasswordFile}, {"token_file", sasl.TokenFile},
	} {
		idle := sasl.Mechanism == "none" || (sasl.Mechanism == "OAUTHBEARER") != (k.key == "token_file")
		r.need(k.value == "" || !idle, "has no effect while kafka.sasl.mechanism is "+sasl.Mechanism, "kafka.sasl."+k.key, "kafka.sasl.mechanism")
	}
	if sasl.Mechanism == "none" {
		return
	}
	if sasl.Mechanism == "OAUTHBEARER" {
		r.need(sasl.TokenFile != "", "must not be empty for the mechanism OAUTHBEARER", "kafka.sasl.token_file", "kafka.sasl.mechanism")
		r.need(r.c.Kafka.TLS.Enabled || local, "OAUTHBEARER sends the token in the clear; set kafka.tls.enabled",
			"kafka.sasl.mechanism", "kafka.tls.enabled", "kafka.brokers")
		return
	}
	r.need(sasl.Username != "", "must not be empty for the mechanism "+sasl.Mechanism, "kafka.sasl.username", "kafka.sasl.mechanism")
	r.need(sasl.Password != "" || sasl.PasswordFile != "", "must not be empty for the mechanism "+sasl.Mechanism+", unless kafka.sasl.password_file is set",
		"kafka.sasl.password", "kafka.sasl.password_file", "kafka.sasl.mechanism")
	r.need(sasl.Password == "" || sasl.PasswordFile == "", "there must not be a kafka.sasl.password beside it", "kafka.sasl.password_file", "kafka.sasl.password")
	r.need(sasl.Mechanism != "PLAIN" || r.c.Kafka.TLS.Enabled || local,
		"PLAIN sends the password in the clear; set kafka.tls.enabled or use SCRAM-SHA-256 or SCRAM-SHA-512",
		"kafka.sasl.mechanism", "kafka.tls.enabled", "kafka.brokers")
}

func (r checker) inputs() {
	in := r.c.Inputs
	for _, topic := range []struct{ key, name string }{{"purchases", in.Purchases}, {"interactions", in.Interactions}} {
		legal := topicName.MatchString(topic.name) && topic.name != "." && topic.name != ".."
		r.need(legal || topic.name == "", fmt.Sprintf("%q is not a topic: letters, digits, dots, hyphens and underscores, at most 249", topic.name), "inputs."+topic.key)
	}
	r.need(in.Purchases != in.Interactions, "must differ from inputs.purchases", "inputs.interactions", "inputs.purchases")
}

func (r checker) listeners() {
	taken := map[string]string{} // path of the listener, by address
	for _, l := range []struct{ path, address string }{
		{"api.listen", r.c.API.Listen}, {"admin.listen", r.c.Admin.Listen}, {"monitor.listen", r.c.Monitor.Listen},
	} {
		if l.address == "" {
			continue
		}
		_, _, fault := hostPort(l.address)
		r.need(fault == "", fault, l.path)
		if _, port, _ := hostPort(l.address); port == 0 {
			continue
		}
		if by, there := taken[l.address]; there {
			r.need(false, "must differ from "+by, l.path, by)
		}
		taken[l.address] = l.path
	}
	r.advertise()
	r.access("api", r.c.API.Listen, r.c.API.Access)
	r.access("admin", r.c.Admin.Listen, r.c.Admin.Access)
}

func (r checker) tracing() {
	text := r.c.Tracing.Endpoint
	_, plain := plainURL(text)
	r.need(text == "" || plain, "must be a URL such as http://127.0.0.1:4318, without user or query; what a collector wants to see goes into OTEL_EXPORTER_OTLP_HEADERS", "tracing.endpoint")
}

// plainURL is a URL of HTTP without user, query or fragment.
func plainURL(text string) (u *url.URL, plain bool) {
	u, err := url.Parse(text)
	return u, err == nil && (u.Scheme == "http" || u.Scheme == "https") && u.Hostname() != "" &&
		u.User == nil && u.RawQuery == "" && u.Fragment == "" && !strings.ContainsAny(text, " ?#")
}

// advertise is a URL that other machines take as it is and put a path behind.
func (r checker) advertise() {
	text := r.c.API.Advertise
	if text == "" {
		host, _, fault := hostPort(r.c.API.Listen)
		ip, err := netip.ParseAddr(host)
		r.need(fault != "" || host != "" && (err != nil || !ip.IsUnspecified()),
			fmt.Sprintf("needed: nobody can be sent to %s; give the URL under which others reach this instance", r.c.API.Listen), "api.advertise", "api.listen")
		return
	}
	u, plain := plainURL(text)
	r.need(plain && u.Path == "", "must be a URL such as https://asiduo-0.example:8443, without user, path or query", "api.advertise")
	r.need(r.c.API.Listen != "", "has no effect while api.listen is empty", "api.advertise", "api.listen")
}

var token = regexp.MustCompile(`^[A-Za-z0-9._~+/-]{16,512}=*$`)

// CheckToken holds that a token fits into a header and cannot be guessed if it is random.
func CheckToken(text string) error {
	if !token.MatchString(text) {
		return errors.New("a token is 16 to 512 letters, digits and -._~+/=")
	}
	return nil
}

// access holds that who asks a listener that other machines reach has to show something, and that nothing contradicts.
func (r checker) access(section, listen string, a Access) {
	at := func(key string) string { return section + ".access." + key }
	host, _, fault := hostPort(listen)
	guarded := len(a.Tokens) > 0 || a.TokensFile != "" || a.ClientCAFile != ""
	r.need(listen == "" || fault != "" || loopback(host) || guarded || a.Insecure,
		fmt.Sprintf("%s can be reached from other machines: set %s or %s, or say %s: true if everybody who reaches it may ask",
			listen, at("tokens_file"), at("client_ca_file"), at("insecure")), section+".listen", at("tokens"), at("tokens_file"), at("client_ca_file"), at("insecure"))
	r.need(!guarded || !a.Insecure, "contradicts the tokens or certificates that are asked for", at("insecure"))
	for i, one := range a.Tokens {
		err := CheckToken(string(one))
		r.need(err == nil, fmt.Sprint(err), index(at("tokens"), i))
	}
	r.need(a.CertFile == "" || a.KeyFile != "", "needs "+at("key_file"), at("cert_file"), at("key_file"))
	r.need(a.KeyFile == "" || a.CertFile != "", "needs "+at("cert_file"), at("key_file"), at("cert_file"))
	r.need(a.ClientCAFile == "" || a.CertFile != "", "needs "+at("cert_file"), at("client_ca_file"), at("cert_file"))
}
