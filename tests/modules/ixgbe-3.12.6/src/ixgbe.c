// SPDX-License-Identifier: GPL-2.0-or-later
//
// Stands in for a network driver whose source lies in a directory of its own.

#include <linux/module.h>

static int __init ixgbe_init(void)
{
	pr_info("version 3.12.6\n");
	return 0;
}
module_init(ixgbe_init);

static void __exit ixgbe_exit(void)
{
}
module_exit(ixgbe_exit);

MODULE_DESCRIPTION("Stand-in for a network driver");
MODULE_LICENSE("GPL");
MODULE_VERSION("3.12.6");
