// SPDX-License-Identifier: GPL-2.0-or-later

// Prints what fsnotify tells of a directory.
package main

import (
	"fmt"
	"os"

	"github.com/fsnotify/fsnotify"
)

func main() {
	watcher, err := fsnotify.NewWatcher()
	if err == nil {
		err = watcher.Add(os.Args[1])
	}
	if err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	fmt.Println("ready")
	for {
		select {
		case event := <-watcher.Events:
			fmt.Println(event.Op, event.Name)
		case err := <-watcher.Errors:
			fmt.Println("error:", err)
		}
	}
}
