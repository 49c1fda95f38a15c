// Package correlate turns matches into firings.
package correlate
