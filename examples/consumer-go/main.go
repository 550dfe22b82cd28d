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
	"strings"
	"syscall"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

type reading struct {
	ID      string  `json:"id"`
	Celsius float64 `json:"celsius"`
	Fan     string  `json:"fan"`
}

// kept remembers what was kept. In your program keep is one INSERT into a table whose primary key is (device, id); a map
// in memory forgets.
var kept = map[[2]string]bool{}

// keep answers false when the message was kept before. A message can come twice: it is stored again when its
// acknowledgement was lost on the way to the device, and delivered again when ours was lost.
func keep(device, id string) bool {
	key := [2]string{device, id}
	if kept[key] {
		return false
	}
	kept[key] = true
	return true
}

func take(connection *nats.Conn, message jetstream.Msg) error {
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
	var r reading
	err = json.Unmarshal(message.Data(), &r)
	if err == nil && r.ID == "" {
		err = errors.New("it has no id")
	}
	if err != nil {
		// It will not get better: say so, and do not have it delivered again.
		fmt.Printf("%s unreadable: %v\n", device, err)
		return message.Term()
	}

	switch {
	case !keep(device, r.ID):
		fmt.Printf("%s %s again\n", device, r.ID)
	case kind == "temperature":
		fmt.Printf("%s %s %v °C\n", device, r.ID, r.Celsius)
		// A command goes to cmd.<device id>.…; the device gets it under cmd/<device id>/… if it is connected.
		command := ""
		if r.Celsius > 30 {
			command = "on"
		} else if r.Celsius < 25 {
			command = "off"
		}
		if command != "" {
			if err := connection.Publish("cmd."+token+".fan", []byte(command)); err != nil {
				return err
			}
		}
	case kind == "fan":
		fmt.Printf("%s %s fan %s\n", device, r.ID, r.Fan)
	}
	// Only now: what was not acknowledged within 30 s is delivered again, also to another copy of this program.
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
		if err := take(connection, message); err != nil {
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
