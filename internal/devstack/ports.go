package devstack

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"strconv"
	"time"
)

// loopback is the only address the stack listens on.
const loopback = "127.0.0.1"

// Ports are taken from below the ranges that kernels use for outgoing
// connections (Linux: 32768 up). A port of that range can be taken while a
// server restarts, even by a client that dials the stopped server: TCP lets a
// connection meet itself when source and destination port are equal.
const (
	firstPort = 18000
	lastPort  = 32000
)

// freePorts finds n ports that nobody listens on at this moment. Another
// process can take one before the server does, so starters try again.
func freePorts(n int) ([]int, error) {
	ports := make([]int, 0, n)
	var held []net.Listener
	defer func() {
		for _, ln := range held {
			_ = ln.Close()
		}
	}()
	for tries := 0; len(ports) < n; tries++ {
		if tries > 2000 {
			return nil, errors.New("find a free port: 2000 tries were in vain")
		}
		port := firstPort + rand.IntN(lastPort-firstPort)
		ln, err := net.Listen("tcp", hostPort(port))
		if err != nil {
			continue
		}
		held = append(held, ln)
		ports = append(ports, port)
	}
	return ports, nil
}

// FreeAddr is a host:port on loopback that nobody listens on at this moment, and
// that no outgoing connection is given.
func FreeAddr() (string, error) {
	ports, err := freePorts(1)
	if err != nil {
		return "", err
	}
	return hostPort(ports[0]), nil
}

// choosePorts keeps the ports that are given (not zero) and finds the others.
func choosePorts(given ...int) ([]int, error) {
	free, err := freePorts(len(given))
	if err != nil {
		return nil, err
	}
	for i, p := range given {
		if p != 0 {
			free[i] = p
		}
	}
	return free, nil
}

// waitPortFree waits until nobody listens on a port that the caller fixed: the
// server that had it before may still be on its way out.
func waitPortFree(port int, patience time.Duration) error {
	end := time.Now().Add(patience)
	for {
		ln, err := net.Listen("tcp", hostPort(port))
		if err == nil {
			return ln.Close()
		}
		if time.Now().After(end) {
			return fmt.Errorf("port %d is taken: %w", port, err)
		}
		time.Sleep(50 * time.Millisecond)
	}
}

func hostPort(port int) string { return net.JoinHostPort(loopback, strconv.Itoa(port)) }
