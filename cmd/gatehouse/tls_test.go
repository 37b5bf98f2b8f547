package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// certificate writes a certificate for loopback and its key, and returns their
// paths and who trusts it.
func certificate(t *testing.T) (certFile, keyFile string, trusted *x509.CertPool) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "gatehouse test"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, IsCA: true, BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	write := func(name, kind string, der []byte) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	trusted = x509.NewCertPool()
	trusted.AddCert(cert)
	return write("cert.pem", "CERTIFICATE", der), write("key.pem", "PRIVATE KEY", private), trusted
}

// newTLSClient is a client at an address of its own that speaks one version of
// HTTP, as in http.Response.Proto.
func newTLSClient(source, proto string, trusted *x509.CertPool) *http.Client {
	var protocols http.Protocols
	protocols.SetHTTP1(proto == "HTTP/1.1")
	protocols.SetHTTP2(proto == "HTTP/2.0")
	return &http.Client{Timeout: patience, Transport: &http.Transport{
		DialContext:     dialer(source).DialContext,
		TLSClientConfig: &tls.Config{RootCAs: trusted},
		Protocols:       &protocols,
	}}
}

func TestTLS(t *testing.T) {
	t.Parallel()
	needLinux(t)
	certFile, keyFile, trusted := certificate(t)
	n := startNode(t, newDatabase(t), "--tls-cert="+certFile, "--tls-key="+keyFile)

	for i, proto := range []string{"HTTP/1.1", "HTTP/2.0"} {
		t.Run(proto, func(t *testing.T) {
			client := newTLSClient(loopback(i), proto, trusted)
			defer client.CloseIdleConnections()
			who := mustSignUp(t, client, n.url, fmt.Sprintf("tls-%d@customers.dev", i))
			checkKey(t, client, n.url, who)
			resp, err := client.Get(n.url + "/livez")
			if err != nil {
				t.Fatal(err)
			}
			if err := resp.Body.Close(); err != nil || resp.Proto != proto {
				t.Errorf("answered over %s, %v; want %s", resp.Proto, err, proto)
			}
		})
	}
	for version, wanted := range map[uint16]bool{tls.VersionTLS10: false, tls.VersionTLS11: false, tls.VersionTLS12: true, tls.VersionTLS13: true} {
		c, err := tls.Dial("tcp", n.host(), &tls.Config{RootCAs: trusted, MinVersion: version, MaxVersion: version})
		if err == nil {
			_ = c.Close() // only the handshake counts
		}
		if (err == nil) != wanted {
			t.Errorf("%s: %v, want it spoken: %t", tls.VersionName(version), err, wanted)
		}
	}
	// Plain HTTP is told what is wrong, and harms nobody.
	if c := do(n.client(""), http.MethodGet, "http://"+n.host()+"/livez", "", ""); c.status != http.StatusBadRequest {
		t.Errorf("plain HTTP: %d %v, want 400", c.status, c.err)
	}
	n.drain()
}

func TestAdminListener(t *testing.T) {
	t.Parallel()
	n := startNode(t, newDatabase(t))
	client := n.client("")
	for _, path := range []string{"/metrics", "/debug/pprof/", "/debug/pprof/cmdline", "/debug/pprof/goroutine", "/debug/pprof/symbol"} {
		c := do(client, http.MethodGet, n.adminURL+path, "", "")
		if c.status != http.StatusOK || len(c.body) == 0 && !strings.HasSuffix(path, "symbol") {
			t.Errorf("%s on the admin listener: %d, %d bytes, %v; want 200", path, c.status, len(c.body), c.err)
		}
		c = do(client, http.MethodGet, n.url+path, "", "")
		if code, _ := c.problem(); c.status != http.StatusNotFound || code != "NOT_FOUND" {
			t.Errorf("%s on the public listener: %d %s, want 404", path, c.status, c.body)
		}
	}
	for _, path := range []string{"/api/v1/account", "/health", "/livez"} {
		if c := do(client, http.MethodGet, n.adminURL+path, "", ""); c.status != http.StatusNotFound {
			t.Errorf("%s on the admin listener: %d, want 404", path, c.status)
		}
	}
	// The admin listener can't be talked into by naming it.
	r, err := http.NewRequest(http.MethodGet, n.url+"/metrics", nil)
	if err != nil {
		t.Fatal(err)
	}
	r.Host = strings.TrimPrefix(n.adminURL, "http://")
	resp, err := client.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	if err := resp.Body.Close(); err != nil || resp.StatusCode != http.StatusNotFound {
		t.Errorf("/metrics on the public listener by the other's name: %s, %v; want 404", resp.Status, err)
	}
	if build := n.metrics().sum("gatehouse_build_info", "version="+version); build != 1 {
		t.Errorf("gatehouse_build_info of version %s is %v, want 1", version, build)
	}
}

func TestAdminListenerOff(t *testing.T) {
	t.Parallel()
	n := startNode(t, newDatabase(t), "--admin-listen=off")
	if n.adminURL != "" {
		t.Errorf("an admin listener that is off listens on %s", n.adminURL)
	}
	mustSignUp(t, n.client(""), n.url, "off@customers.dev")
	n.drain()
}
