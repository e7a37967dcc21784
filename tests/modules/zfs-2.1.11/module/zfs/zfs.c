// SPDX-License-Identifier: GPL-2.0-or-later
//
// Stands in for a file system whose package configures itself and keeps files for others to build upon.

#include <linux/module.h>

int zfs_answer(void)
{
	return 42;
}
EXPORT_SYMBOL(zfs_answer);

MODULE_DESCRIPTION("Stand-in for a file system, for " CONFIGURED_FOR);
MODULE_LICENSE("GPL");
MODULE_VERSION("2.1.11");
