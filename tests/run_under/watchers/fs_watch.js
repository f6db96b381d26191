// SPDX-License-Identifier: GPL-2.0-or-later
// Prints what node's fs.watch() tells of a directory.
'use strict';
const fs = require('fs');

fs.watch(process.argv[2], (kind, name) => console.log(kind, name))
  .on('error', (error) => console.log('error', error.message));
console.log('ready');
