package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"time"
)

// forgedPace is the rate at which latencies are compared, as deniedPace is.
const forgedPace = 2000

// benchForged storms the server over 32 connections with webhooks that nobody
// signed, and a bare net/http handler, which reads the body and makes one HMAC
// of it, in turns, as benchDenied does: from 8 addresses whose limits are used
// up, and, through a proxy, from ever new ones, 50 from each, which all are
// within theirs.
func benchForged(ctx context.Context, o options) error {
	body := paid("1PgafyB7WZ01zgkW00000000", "0192f0c1-2b3d-7a4e-8f50-112233445566")
	var sent atomic.Int64
	for i, storm := range []struct {
		name, limit, want string
		address           func() string
	}{
		{"from 8 addresses, refused", "60/3600s", "429", func() string { return "" }},
		{"from ever new addresses", "60/60s", "401", func() string {
			n := sent.Add(1) / 50
			return fmt.Sprintf("10.%d.%d.%d", n>>16&255, n>>8&255, n&255)
		}},
	} {
		server, err := o.serveWebhooks(ctx, "sqlite:"+filepath.Join(o.dir, fmt.Sprintf("forged%d.db", i)), "--limit-webhook-unauthentic", storm.limit)
		if err != nil {
			return err
		}
		d := drive{
			addr: server.addr, conns: 32, want: storm.want,
			from: func(conn int) net.IP { return net.IPv4(127, 0, 1, byte(1+conn%8)) },
			request: func(buf []byte, _, _ int) []byte {
				return appendWebhook(buf, body, "t="+strconv.FormatInt(time.Now().Unix(), 10)+",v1="+strings.Repeat("0", 64), storm.address())
			},
		}
		if _, err := d.run(ctx, time.Second); err != nil { // uses the limits up, or warms up
			return err
		}
		bare, err := o.startBare(ctx, server.addr, "/api/webhooks/stripe", webhookSecret)
		if err != nil {
			return err
		}
		fmt.Printf("%s:\n", storm.name)
		if err := errors.Join(againstBare(ctx, o, server, bare, d, forgedPace), server.stop(), bare.kill()); err != nil {
			return err
		}
	}
	return nil
}
