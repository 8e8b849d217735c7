// A client of the chat's protocol for Go, of the standard library alone. Written from docs/reference/chat-protocol.md alone.
//
//	go run client.go HOST PORT NICK ROOM TEXT
//
// Comes into the room under the name, says the text, and prints what is said there until somebody says "bye <nick>".
package main

import (
	"bufio"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"os"
)

type event struct {
	Type, Room, Nick, New, Text, Code string
	More                              bool
}

func main() {
	host, port, nick, room, text := os.Args[1], os.Args[2], os.Args[3], os.Args[4], os.Args[5]
	conn, err := net.Dial("tcp", net.JoinHostPort(host, port))
	check(err)
	tell := func(command map[string]string) {
		data, err := json.Marshal(command)
		check(err)
		_, err = conn.Write(append(binary.BigEndian.AppendUint32(nil, uint32(len(data))), data...))
		check(err)
	}
	for in := bufio.NewReader(conn); ; {
		var length uint32
		check(binary.Read(in, binary.BigEndian, &length))
		data := make([]byte, length)
		_, err := io.ReadFull(in, data)
		check(err)
		var heard event
		check(json.Unmarshal(data, &heard))
		switch heard.Type {
		case "welcome":
			tell(map[string]string{"type": "nick", "nick": nick})
		case "renamed":
			if heard.New == nick && heard.Room == "" {
				tell(map[string]string{"type": "join", "room": room})
			}
		case "history":
			if heard.Room == room && !heard.More {
				tell(map[string]string{"type": "say", "room": room, "text": text})
			}
		case "ping":
			tell(map[string]string{"type": "pong"})
		case "message":
			if heard.Room == room {
				fmt.Printf("%s: %s\n", heard.Nick, heard.Text)
				if heard.Text == "bye "+nick {
					return
				}
			}
		case "error":
			check(fmt.Errorf("%s: %s", heard.Code, heard.Text))
		}
	}
}

func check(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}
