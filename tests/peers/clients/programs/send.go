// Sends a message by Go's net/smtp. What comes on standard input stands in README.md.
package main

import (
	"bytes"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/smtp"
	"os"
	"strings"
)

// loginAuth is AUTH LOGIN, which net/smtp leaves to its users.
type loginAuth struct{ username, password string }

func (a loginAuth) Start(*smtp.ServerInfo) (string, []byte, error) { return "LOGIN", nil, nil }

func (a loginAuth) Next(challenge []byte, more bool) ([]byte, error) {
	switch {
	case !more:
		return nil, nil
	case bytes.HasPrefix(bytes.ToLower(challenge), []byte("user")):
		return []byte(a.username), nil
	case bytes.HasPrefix(bytes.ToLower(challenge), []byte("pass")):
		return []byte(a.password), nil
	}
	return nil, fmt.Errorf("asked for %q", challenge)
}

func main() {
	if err := send(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func send() error {
	input, err := io.ReadAll(os.Stdin)
	if err != nil {
		return err
	}
	head, message, _ := bytes.Cut(input, []byte("\n\n"))
	work := map[string]string{}
	for _, line := range strings.Split(string(head), "\n") {
		name, value, _ := strings.Cut(line, ": ")
		work[name] = value
	}
	address := net.JoinHostPort(work["host"], work["port"])
	recipients := strings.Split(work["recipients"], ",")
	if work["security"] != "tls" {
		// It takes STARTTLS where it is offered, and trusts the authorities of SSL_CERT_FILE.
		return smtp.SendMail(address, login(work), work["sender"], recipients, message)
	}
	return sendOverTLS(address, work, recipients, message)
}

func login(work map[string]string) smtp.Auth {
	switch {
	case work["username"] == "":
		return nil
	case work["mechanism"] == "LOGIN":
		return loginAuth{work["username"], work["password"]}
	}
	// It knows CRAM-MD5 beside, and leaves the choice to its users.
	return smtp.PlainAuth("", work["username"], work["password"], work["host"])
}

// sendOverTLS does what SendMail does, which knows no implicit TLS.
func sendOverTLS(address string, work map[string]string, recipients []string, message []byte) error {
	connection, err := tls.Dial("tcp", address, nil)
	if err != nil {
		return err
	}
	client, err := smtp.NewClient(connection, work["host"])
	if err != nil {
		return err
	}
	defer client.Close()
	if auth := login(work); auth != nil {
		if ok, _ := client.Extension("AUTH"); !ok {
			return errors.New("no AUTH offered")
		}
		if err := client.Auth(auth); err != nil {
			return err
		}
	}
	if err := client.Mail(work["sender"]); err != nil {
		return err
	}
	for _, recipient := range recipients {
		if err := client.Rcpt(recipient); err != nil {
			return err
		}
	}
	data, err := client.Data()
	if err != nil {
		return err
	}
	if _, err := data.Write(message); err != nil {
		return err
	}
	if err := data.Close(); err != nil {
		return err
	}
	return client.Quit()
}
