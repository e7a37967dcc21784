// SPDX-License-Identifier: GPL-2.0-or-later
//
// Stands in for a network driver that the kernel has one of the same name of.

#include <linux/module.h>

#define RTL8169_VERSION "2.2LK"

static int __init rtl8169_init(void)
{
	pr_info("version %s\n", RTL8169_VERSION);
	return 0;
}
module_init(rtl8169_init);

static void __exit rtl8169_exit(void)
{
}
module_exit(rtl8169_exit);

MODULE_DESCRIPTION("Stand-in for a network driver");
MODULE_LICENSE("GPL");
MODULE_VERSION(RTL8169_VERSION);
