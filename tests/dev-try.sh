cd /srv
K=6.1.0-56-amd64
apt-get install -y --no-install-recommends -o Dpkg::Use-Pty=0 strace >/srv/apt.log 2>&1 || echo no strace
apt-get install -y --no-install-recommends -o Dpkg::Use-Pty=0 evdi-dkms v4l2loopback-dkms acpi-call-dkms bbswitch-dkms >/srv/apt.log 2>&1 || tail -20 /srv/apt.log
cat /var/cache/dkms/build-times
unbuild() { dkms status | sed "s,\, .*,," | sort -u | while read m; do dkms unbuild $m -k $K >/dev/null; done; }
unbuild
dkms autoinstall -k $K >/srv/out & p=$!
while read -r line </proc/$p/stat; do last=$line; sleep .02; done 2>/dev/null
wait $p
set -- $last; echo "self utime $14 stime $15 children $16 $17 (ticks)"
times
unbuild
DKMS_LOG= strace -f -c -S time -o /srv/st dkms autoinstall -k $K -j 1 >/dev/null; head -12 /srv/st
unbuild
strace -f -tt -e trace=execve,exit_group -s 60 -o /srv/st2 dkms autoinstall -k $K >/dev/null
grep -c execve /srv/st2; grep -o 'execve("[^"]*"' /srv/st2 | sort | uniq -c | sort -rn | head -30
grep 'execve("[^"]*/\(cc1\|make\|bash\|sign-file\|depmod\|strip\|date\)"' /srv/st2 | grep -v ENOENT | awk '{print $2,$1,$3,$4}' | grep -v cc1 | head -60
tail -3 /srv/st2
