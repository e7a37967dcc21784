// SPDX-License-Identifier: GPL-2.0-or-later

#include <linux/module.h>

static int __init hello_init(void)
{
	pr_info("Hello world.\n");
	return 0;
}
module_init(hello_init);

static void __exit hello_exit(void)
{
	pr_info("Goodbye world.\n");
}
module_exit(hello_exit);

MODULE_DESCRIPTION("Says hello when it is loaded");
MODULE_LICENSE("GPL");
MODULE_VERSION("0.1");
