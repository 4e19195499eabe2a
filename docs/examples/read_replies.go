// Reads replies from the socket of stablediffusion_responsed and writes each picture to a file:
//
//	go run read_replies.go results.alice [localhost:50007]
//
// Jobs whose replies it is to read are published with results.alice as their reply_to.
package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"log"
	"net"
	"net/url"
	"os"
	"path"
)

// What this program needs of a line; there is more in it (docs/protocol.md).
type line struct {
	Type     string
	Delivery int
	Id       string
	Index    int
	Length   int
	Message  string
	Media    string `json:"content_type"` // image/png, image/jpeg or image/webp
	Error    struct{ Code, Message string }
}

func main() {
	if len(os.Args) < 2 {
		log.Fatal("usage: read_replies QUEUE [ADDRESS]")
	}
	address := "localhost:50007"
	if len(os.Args) > 2 {
		address = os.Args[2]
	}
	connection, err := net.Dial("tcp", address)
	if err != nil {
		log.Fatal(err)
	}
	defer connection.Close()
	say := json.NewEncoder(connection) // one object a line
	say.Encode(map[string]any{"op": "listen", "queue": os.Args[1], "encoding": "binary", "ack": "manual"})

	// Not a bufio.Scanner: it gives up at lines of more than 64 KiB, and pictures are no lines.
	reader := bufio.NewReader(connection)
	for {
		text, err := reader.ReadBytes('\n')
		if err == io.EOF {
			return
		}
		if err != nil {
			log.Fatal(err)
		}
		var reply line
		if err := json.Unmarshal(text, &reply); err != nil {
			log.Fatal(err)
		}
		data := make([]byte, reply.Length)
		if _, err := io.ReadFull(reader, data); err != nil {
			log.Fatal(err)
		}
		if reply.Type == "image" {
			if err := os.WriteFile(fileName(reply), data, 0o644); err != nil {
				log.Fatal(err) // not acked: the next reader of the queue gets it
			}
		}
		if reply.Delivery > 0 {
			say.Encode(map[string]any{"op": "ack", "delivery": reply.Delivery})
		}
		report(reply)
	}
}

func fileName(reply line) string {
	return fmt.Sprintf("%s-%d.%s", url.PathEscape(reply.Id), reply.Index, path.Base(reply.Media))
}

func report(reply line) {
	switch reply.Type {
	case "image":
		fmt.Println("written", fileName(reply))
	case "failed":
		fmt.Println("failed", reply.Id, reply.Error.Message)
	case "error":
		fmt.Println("error", reply.Message)
	default:
		fmt.Println(reply.Type, reply.Id)
	}
}
