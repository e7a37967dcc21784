// SPDX-License-Identifier: GPL-2.0-or-later
//
// Stands in for a graphics multiplexer: a parameter and nothing behind it.

#include <linux/module.h>

static bool indexed;
module_param(indexed, bool, 0444);
MODULE_PARM_DESC(indexed, "Access the (missing) registers by index");

static int __init gmux_init(void)
{
	pr_info("no gmux here, access would be %s\n", indexed ? "indexed" : "direct");
	return 0;
}
module_init(gmux_init);

static void __exit gmux_exit(void)
{
}
module_exit(gmux_exit);

MODULE_DESCRIPTION("Stand-in for a graphics multiplexer");
MODULE_LICENSE("GPL");
