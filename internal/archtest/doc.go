// Package archtest holds the shape of the repository: the layers, the homes of
// third-party modules, package comments, the size of files and functions. It
// is tests only.
package archtest
