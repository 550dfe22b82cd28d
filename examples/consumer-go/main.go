// A consumer: takes every message of every device from the stream, keeps it once, and switches fans.
//
//	go run .
//
// NATS_URL is nats://localhost:4222 unless set.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log"
	"net/url"
	"os"
	"os/signal"
	"regexp"
	"strings"
	"syscall"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

type reading struct {
	ID      string   `json:"id"`
	Celsius *float64 `json:"celsius"`
	Fan     string   `json:"fan"`
}

// kept remembers what was kept. A message can come twice: it is stored again when its acknowledgement was lost on the way
// to the device, and delivered again when ours was lost. In your program this is a table whose primary key is (device, id);
// a map in memory forgets.
var kept = map[[2]string]bool{}

func isKept(device, id string) bool { return kept[[2]string{device, id}] }
func keep(device, id string)        { kept[[2]string{device, id}] = true }

var idPattern = regexp.MustCompile(`^[!-~]{1,64}$`)

// read reads a message. A device can send anything: believe nothing that was not looked at.
func read(data []byte, kind string) (reading, error) {
	var r reading
	if err := json.Unmarshal(data, &r); err != nil {
		return r, err
	}
	switch {
	case !idPattern.MatchString(r.ID):
		return r, errors.New("it has no id of 1 to 64 printable characters")
	case kind == "temperature" && (r.Celsius == nil || *r.Celsius <= -300 || *r.Celsius >= 3000):
		return r, errors.New("it has no temperature")
	case kind == "fan" && r.Fan != "on" && r.Fan != "off":
		return r, errors.New("it does not say whether the fan is on")
	}
	return r, nil
}

func take(ctx context.Context, stream jetstream.JetStream, message jetstream.Msg) error {
	// raw.<device id>; the gateway lets no device use another's. The topic is in a header.
	token := strings.Split(message.Subject(), ".")[1]
	device, err := url.PathUnescape(token)
	if err != nil {
		device = token
	}
	kind := ""
	if levels := strings.Split(message.Headers().Get("Mqtt-Topic"), "/"); len(levels) > 2 {
		kind = levels[2]
	}
	r, err := read(message.Data(), kind)
	if err != nil {
		// It will not get better: say so, and do not have it delivered again. The error may quote what the device sent.
		fmt.Printf("%s unreadable: %q\n", device, err)
		return message.Term()
	}

	if isKept(device, r.ID) {
		fmt.Printf("%s %s again\n", device, r.ID)
		return message.Ack()
	}
	switch kind {
	case "temperature":
		fmt.Printf("%s %s %v °C\n", device, r.ID, *r.Celsius)
		// A command goes to cmd.<device id>.…; the device gets it under cmd/<device id>/…, at once if it is connected,
		// else when it comes back to its session.
		command := ""
		if *r.Celsius > 30 {
			command = "on"
		} else if *r.Celsius < 25 {
			command = "off"
		}
		if command != "" {
			// This returns when the command is stored.
			if _, err := stream.Publish(ctx, "cmd."+token+".fan", []byte(command)); err != nil {
				return err
			}
		}
	case "fan":
		fmt.Printf("%s %s fan %s\n", device, r.ID, r.Fan)
	}
	// Only now that all is done: if this program ends before, the message comes again, and the command can be sent twice.
	keep(device, r.ID)
	// What was not acknowledged within 30 s is delivered again, also to another copy of this program.
	return message.Ack()
}

func run() error {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	server := os.Getenv("NATS_URL")
	if server == "" {
		server = nats.DefaultURL
	}
	connection, err := nats.Connect(server, nats.MaxReconnects(-1))
	if err != nil {
		return err
	}
	defer connection.Drain()
	stream, err := jetstream.New(connection)
	if err != nil {
		return err
	}
	// A durable consumer: NATS remembers what was acknowledged, so nothing is missed while this program does not run.
	// Run it twice, and the two share the work.
	consumer, err := stream.CreateOrUpdateConsumer(ctx, "RAW", jetstream.ConsumerConfig{
		Durable:       "readings-go",
		FilterSubject: "raw.>",
		DeliverPolicy: jetstream.DeliverAllPolicy,
		AckPolicy:     jetstream.AckExplicitPolicy,
		AckWait:       30 * time.Second,
	})
	if err != nil {
		return err
	}
	consuming, err := consumer.Consume(func(message jetstream.Msg) {
		if err := take(ctx, stream, message); err != nil {
			// Not acknowledged, so it comes again.
			log.Print(err)
		}
	}, jetstream.PullMaxMessages(100))
	if err != nil {
		return err
	}
	<-ctx.Done()
	consuming.Stop()
	return nil
}

func main() {
	if err := run(); err != nil {
		log.Fatal(err)
	}
}
