// SPDX-License-Identifier: GPL-2.0-or-later
//
// A uname(2) that names another kernel than the running one, for /etc/ld.so.preload.

#define _GNU_SOURCE
#include <string.h>
#include <sys/syscall.h>
#include <sys/utsname.h>
#include <unistd.h>

int uname(struct utsname *name)
{
	long failed = syscall(SYS_uname, name);

	if (!failed)
		strcpy(name->release, RELEASE);
	return failed;
}
