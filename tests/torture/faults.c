// SPDX-License-Identifier: GPL-2.0-or-later
//
// Runs a command, counts its system calls that change files, in all processes and threads, and lets something happen at
// one of them.
//
//   faults REPORT count COMMAND...          nothing
//   faults REPORT kill N COMMAND...         all processes are killed before the N-th
//   faults REPORT ERROR N COMMAND...        the N-th fails: EIO, EROFS; or with ENOSPC the N-th that takes room
//   faults REPORT ERROR N+ COMMAND...       and so do all after it
//   faults REPORT EMFILE N COMMAND...       the N-th that opens a file does, changing or not
//   faults REPORT short N COMMAND...        the N-th that writes, writes half
//
// REPORT gets a line: how many calls there were, and what the N-th was. The exit code is the command's, or 137.
//
// Changes through mappings are not seen, nor what is written to pipes, sockets and devices, which changes no file, nor
// what is written beside REPORT. A seccomp filter picks the calls, so that all others run at full speed.

#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <signal.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/user.h>
#include <sys/wait.h>
#include <unistd.h>

#ifndef __x86_64__
#error "The registers are those of x86_64."
#endif

enum kind { CHANGES, WRITES, OPENS };

static const struct call {
	int nr;
	const char *name;
	enum kind kind;
	// Which argument names a file, if one does; for writes the descriptor.
	int path;
	// Whether it takes room on a disk.
	int room;
} calls[] = {
	{SYS_open, "open", OPENS, 0, 1},
	{SYS_openat, "openat", OPENS, 1, 1},
	{SYS_creat, "creat", CHANGES, 0, 1},
	{SYS_write, "write", WRITES, 0, 1},
	{SYS_writev, "writev", WRITES, 0, 1},
	{SYS_pwrite64, "pwrite64", WRITES, 0, 1},
	{SYS_pwritev, "pwritev", WRITES, 0, 1},
	{SYS_pwritev2, "pwritev2", WRITES, 0, 1},
	{SYS_sendfile, "sendfile", WRITES, 0, 1},
	{SYS_ftruncate, "ftruncate", WRITES, 0, 0},
	{SYS_fallocate, "fallocate", WRITES, 0, 1},
	{SYS_fchmod, "fchmod", WRITES, 0, 0},
	{SYS_fchown, "fchown", WRITES, 0, 0},
	{SYS_copy_file_range, "copy_file_range", CHANGES, -1, 1},
	{SYS_truncate, "truncate", CHANGES, 0, 0},
	{SYS_rename, "rename", CHANGES, 1, 0},
	{SYS_renameat, "renameat", CHANGES, 3, 0},
	{SYS_renameat2, "renameat2", CHANGES, 3, 0},
	{SYS_link, "link", CHANGES, 1, 1},
	{SYS_linkat, "linkat", CHANGES, 3, 1},
	{SYS_symlink, "symlink", CHANGES, 1, 1},
	{SYS_symlinkat, "symlinkat", CHANGES, 2, 1},
	{SYS_unlink, "unlink", CHANGES, 0, 0},
	{SYS_unlinkat, "unlinkat", CHANGES, 1, 0},
	{SYS_mkdir, "mkdir", CHANGES, 0, 1},
	{SYS_mkdirat, "mkdirat", CHANGES, 1, 1},
	{SYS_rmdir, "rmdir", CHANGES, 0, 0},
	{SYS_mknod, "mknod", CHANGES, 0, 1},
	{SYS_mknodat, "mknodat", CHANGES, 1, 1},
	{SYS_chmod, "chmod", CHANGES, 0, 0},
	{SYS_fchmodat, "fchmodat", CHANGES, 1, 0},
	{SYS_chown, "chown", CHANGES, 0, 0},
	{SYS_lchown, "lchown", CHANGES, 0, 0},
	{SYS_fchownat, "fchownat", CHANGES, 1, 0},
	{SYS_utimensat, "utimensat", CHANGES, 1, 0},
	{SYS_setxattr, "setxattr", CHANGES, 0, 1},
};
enum { CALLS = sizeof(calls) / sizeof(calls[0]) };

static const struct {
	const char *name;
	int number;
} errors[] = {{"ENOSPC", ENOSPC}, {"EIO", EIO}, {"EROFS", EROFS}, {"EMFILE", EMFILE}};

static pid_t traced[65536];
static int count;

static void die(const char *what)
{
	perror(what);
	exit(125);
}

static void known(pid_t pid)
{
	for (int i = 0; i < count; i++)
		if (traced[i] == pid)
			return;
	if (count == sizeof(traced) / sizeof(traced[0]))
		die("too many processes");
	traced[count++] = pid;
}

static void gone(pid_t pid)
{
	for (int i = 0; i < count; i++)
		if (traced[i] == pid) {
			traced[i] = traced[--count];
			return;
		}
}

static void filter(void)
{
	struct sock_filter code[CALLS + 3];
	int n = 0;

	code[n++] = (struct sock_filter)BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr));
	for (int i = 0; i < CALLS; i++, n++)
		code[n] = (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, calls[i].nr, CALLS - i, 0);
	code[n++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW);
	code[n++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_TRACE);
	struct sock_fprog program = {n, code};
	if (prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program))
		die("seccomp");
}

static unsigned long long argument(const struct user_regs_struct *regs, int index)
{
	unsigned long long all[] = {regs->rdi, regs->rsi, regs->rdx, regs->r10, regs->r8, regs->r9};
	return all[index];
}

// What a descriptor is open on; a path begins with a slash.
static const char *behind(pid_t pid, int fd)
{
	static char text[PATH_MAX];
	char link[64];

	snprintf(link, sizeof(link), "/proc/%d/fd/%d", pid, fd);
	ssize_t length = readlink(link, text, sizeof(text) - 1);
	text[length < 0 ? 0 : length] = 0;
	return text;
}

static const char *text_at(pid_t pid, unsigned long long address)
{
	static char text[PATH_MAX];
	size_t length = 0;

	while (length < sizeof(text) - sizeof(long)) {
		errno = 0;
		long word = ptrace(PTRACE_PEEKDATA, pid, address + length, 0);
		if (errno)
			break;
		memcpy(text + length, &word, sizeof(word));
		for (size_t i = 0; i < sizeof(word); i++)
			if (!text[length + i])
				return text;
		length += sizeof(word);
	}
	text[length] = 0;
	return text;
}

// Where the report goes, and what the command says.
static char beside[PATH_MAX];

static int is_file(const char *path)
{
	if (!strncmp(path, beside, strlen(beside)))
		return 0;
	// One in memory is none.
	return path[0] == '/' && strncmp(path, "/dev/", 5) && strncmp(path, "/proc/", 6) && strncmp(path, "/memfd:", 7);
}

// Whether a call is one of those that are counted.
static int counts(pid_t pid, const struct call *call, const struct user_regs_struct *regs, int error, int only_writes)
{
	int flags, open = error == EMFILE;

	if (error == ENOSPC && !call->room)
		return 0;
	switch (call->kind) {
	case WRITES:
		return !open && is_file(behind(pid, argument(regs, 0)));
	case CHANGES:
		return !open && !only_writes;
	default:
		flags = argument(regs, call->path + 1);
		return open || (!only_writes && flags & (O_CREAT | O_TRUNC) && is_file(text_at(pid, argument(regs, call->path))));
	}
}

int main(int argc, char **argv)
{
	if (argc < 4) {
		fprintf(stderr, "usage: faults REPORT count|kill N|ERROR N|ERROR N+|short N COMMAND...\n");
		return 125;
	}
	const char *what = argv[2];
	int error = 0, killing = !strcmp(what, "kill"), shortly = !strcmp(what, "short"), counting = !strcmp(what, "count");
	long number = counting ? LONG_MAX : atol(argv[3]);
	int from_then_on = !counting && strchr(argv[3], '+') != NULL;
	char **command = argv + (counting ? 3 : 4);

	for (size_t i = 0; i < sizeof(errors) / sizeof(errors[0]); i++)
		if (!strcmp(errors[i].name, what))
			error = errors[i].number;
	if (!(killing || shortly || counting || error) || number < 1) {
		fprintf(stderr, "faults: %s %s is nothing that happens\n", what, argv[3]);
		return 125;
	}

	snprintf(beside, sizeof(beside), "%s", argv[1]);
	if (strrchr(beside, '/'))
		strrchr(beside, '/')[1] = 0;

	pid_t child = fork();
	if (child < 0)
		die("fork");
	if (!child) {
		ptrace(PTRACE_TRACEME, 0, 0, 0);
		raise(SIGSTOP);
		filter();
		execvp(command[0], command);
		die(command[0]);
	}
	if (waitpid(child, NULL, 0) != child)
		die("waitpid");
	ptrace(PTRACE_SETOPTIONS, child, 0,
	       PTRACE_O_EXITKILL | PTRACE_O_TRACESECCOMP | PTRACE_O_TRACECLONE | PTRACE_O_TRACEFORK | PTRACE_O_TRACEVFORK);
	ptrace(PTRACE_CONT, child, 0, 0);
	known(child);

	long seen = 0;
	// Whose write is cut short right now, and how long it was.
	pid_t cut = 0;
	unsigned long long whole = 0;
	int code = 137, status;
	char hit[2 * PATH_MAX] = "";

	for (pid_t pid; (pid = waitpid(-1, &status, __WALL)) > 0;) {
		if (WIFEXITED(status) || WIFSIGNALED(status)) {
			gone(pid);
			if (pid == child)
				code = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
			continue;
		}
		if (!WIFSTOPPED(status))
			continue;
		known(pid);
		int event = status >> 16, signal = WSTOPSIG(status);
		if (pid == cut && signal == SIGTRAP && !event) {
			struct user_regs_struct regs;

			if (!ptrace(PTRACE_GETREGS, pid, 0, &regs)) {
				regs.rdx = whole;
				ptrace(PTRACE_SETREGS, pid, 0, &regs);
			}
			cut = 0;
		}
		if (event == PTRACE_EVENT_SECCOMP) {
			struct user_regs_struct regs;
			const struct call *call = NULL;

			if (ptrace(PTRACE_GETREGS, pid, 0, &regs))
				continue;
			for (int i = 0; i < CALLS; i++)
				if (calls[i].nr == (int)regs.orig_rax)
					call = &calls[i];
			if (call && counts(pid, call, &regs, error, shortly)) {
				seen++;
				if (seen == number) {
					char comm[64] = "", name[64];
					const char *path = "";
					FILE *file;

					snprintf(name, sizeof(name), "/proc/%d/comm", pid);
					if ((file = fopen(name, "r"))) {
						if (fgets(comm, sizeof(comm), file))
							comm[strcspn(comm, "\n")] = 0;
						fclose(file);
					}
					if (call->kind == WRITES)
						path = behind(pid, argument(&regs, 0));
					else if (call->path >= 0)
						path = text_at(pid, argument(&regs, call->path));
					snprintf(hit, sizeof(hit), " %s: %s %s", comm, call->name, path);
				}
				if (seen == number && killing) {
					for (int i = 0; i < count; i++)
						kill(traced[i], SIGKILL);
					continue;
				}
				if (error && (seen == number || (from_then_on && seen > number))) {
					regs.orig_rax = -1;
					regs.rax = -error;
					ptrace(PTRACE_SETREGS, pid, 0, &regs);
				}
				if (shortly && seen == number && regs.rdx > 1 && call->nr == SYS_write) {
					whole = regs.rdx;
					regs.rdx /= 2;
					ptrace(PTRACE_SETREGS, pid, 0, &regs);
					// A call leaves that register as it was, and its caller may count on it.
					ptrace(PTRACE_SYSCALL, pid, 0, 0);
					cut = pid;
					continue;
				}
			}
			ptrace(PTRACE_CONT, pid, 0, 0);
			continue;
		}
		// A new process begins with a stop that is none of its own; other events have no signal either.
		if (event || signal == SIGSTOP || signal == SIGTRAP)
			signal = 0;
		ptrace(PTRACE_CONT, pid, 0, signal);
	}

	FILE *report = fopen(argv[1], "w");
	if (!report)
		die(argv[1]);
	fprintf(report, "%ld%s\n", seen, hit);
	fclose(report);
	return code;
}
