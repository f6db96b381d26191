// SPDX-License-Identifier: GPL-2.0-or-later
// Prints what chokidar, of the directory of modules that is named second, tells of a directory.
'use strict';
const chokidar = require(process.argv[3]);

chokidar.watch(process.argv[2])
  .on('all', (kind, path) => console.log(kind, path))
  .on('error', (error) => console.log('error', error.message))
  .on('ready', () => console.log('ready'));
