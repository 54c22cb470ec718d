package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"math/big"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"

	"github.com/mosaik-go/mosaik/codec"
)

// natsServer is an embedded NATS server, with TLS or without, and a connection for each party.
type natsServer bool

func (n natsServer) name() string {
	if n {
		return "nats+tls"
	}
	return "nats"
}

const subject = "bench"

// broker is a running server and its clients.
type broker struct {
	srv  *server.Server
	opts []nats.Option
}

func (n natsServer) start() (*broker, error) {
	opts := &server.Options{
		Host: "127.0.0.1", Port: server.RANDOM_PORT, NoSigs: true, NoLog: true,
		MaxPending: 1 << 30, MaxPayload: 8 << 20,
	}
	b := new(broker)
	if n {
		server, client, err := selfSigned()
		if err != nil {
			return nil, err
		}
		opts.TLSConfig, opts.TLSTimeout = server, 5
		b.opts = append(b.opts, nats.Secure(client))
	}
	var err error
	if b.srv, err = server.NewServer(opts); err != nil {
		return nil, err
	}
	go b.srv.Start()
	if !b.srv.ReadyForConnections(10 * time.Second) {
		b.srv.Shutdown()
		return nil, errors.New("the NATS server does not start")
	}
	return b, nil
}

func (b *broker) stop() {
	b.srv.Shutdown()
	b.srv.WaitForShutdown()
}

func (b *broker) connect() (*nats.Conn, error) { return nats.Connect(b.srv.ClientURL(), b.opts...) }

// subscribe calls fn for each message on a connection of its own.
func (b *broker) subscribe(fn func([]byte)) (*nats.Conn, error) {
	c, err := b.connect()
	if err != nil {
		return nil, err
	}
	sub, err := c.Subscribe(subject, func(m *nats.Msg) { fn(m.Data) })
	if err == nil {
		err = sub.SetPendingLimits(-1, -1)
	}
	if err == nil {
		err = c.Flush()
	}
	return c, err
}

func (n natsServer) rate(size, consumers int, d time.Duration) (result, error) {
	b, err := n.start()
	if err != nil {
		return result{}, err
	}
	defer b.stop()
	quotes := codec.Must(codec.For[quote]())
	var total atomic.Int64
	var ended sync.WaitGroup
	ended.Add(consumers)
	for range consumers {
		var v quote
		count, over := int64(0), false
		c, err := b.subscribe(func(data []byte) {
			if len(data) == 0 { // the end
				if !over {
					over = true
					total.Add(count)
					ended.Done()
				}
				return
			}
			if size == structSize {
				if quotes.Decode(data, &v) != nil {
					return
				}
			}
			count++
		})
		if err != nil {
			return result{}, err
		}
		defer c.Close()
	}
	pub, err := b.connect()
	if err != nil {
		return result{}, err
	}
	defer pub.Close()
	payload := make([]byte, size)
	start, cpu := time.Now(), cpuTime()
	for i := uint64(0); ; i++ {
		if i%64 == 0 && time.Since(start) > d {
			break
		}
		if size == structSize {
			if payload, err = quotes.Append(payload[:0], &quote{Seq: i, Time: 1 << 60}); err != nil {
				return result{}, err
			}
		}
		if err := pub.Publish(subject, payload); err != nil {
			return result{}, err
		}
	}
	if err := pub.Publish(subject, nil); err != nil {
		return result{}, err
	}
	if err := pub.FlushTimeout(time.Minute); err != nil {
		return result{}, err
	}
	ended.Wait()
	return result{deliveries: int(total.Load()), took: time.Since(start), cpu: cpuTime() - cpu}, nil
}

func (n natsServer) latency(perSecond int, d time.Duration, h *hdrhistogram.Histogram) error {
	b, err := n.start()
	if err != nil {
		return err
	}
	defer b.stop()
	quotes := codec.Must(codec.For[quote]())
	origin := time.Now()
	done := make(chan struct{})
	var v quote
	c, err := b.subscribe(func(data []byte) {
		if len(data) == 0 {
			close(done)
			return
		}
		if quotes.Decode(data, &v) == nil {
			h.RecordValue(int64(time.Since(origin)) - v.Time)
		}
	})
	if err != nil {
		return err
	}
	defer c.Close()
	pub, err := b.connect()
	if err != nil {
		return err
	}
	defer pub.Close()
	var buf []byte
	err = pace(perSecond, d, func() error {
		if buf, err = quotes.Append(buf[:0], &quote{Time: int64(time.Since(origin))}); err != nil {
			return err
		}
		return pub.Publish(subject, buf)
	})
	if err != nil {
		return err
	}
	if err := pub.Publish(subject, nil); err != nil {
		return err
	}
	if err := pub.FlushTimeout(time.Minute); err != nil {
		return err
	}
	<-done
	return nil
}

// selfSigned returns TLS settings for a server on loopback and its clients.
func selfSigned() (srv, client *tls.Config, err error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, nil, err
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true,
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		return nil, nil, err
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, nil, err
	}
	pool := x509.NewCertPool()
	pool.AddCert(cert)
	srv = &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}, MinVersion: tls.VersionTLS13}
	return srv, &tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS13}, nil
}
