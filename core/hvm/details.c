#include "hvm/details.h"

#include <linux/kvm.h>

#include "base/print.h"
#include "base/string.h"
#include "base/sys.h"

#define EFER_LMA (1ULL << 10)

void hvm_vcpu_examine(struct hvm_vcpu *vcpu, struct hvm_details *ret)
{
    memset(ret, 0, sizeof(*ret));
    if (vcpu->fd < 0)
        return;
    sys3(__NR_ioctl, vcpu->fd, KVM_GET_VCPU_EVENTS, &ret->events);
    const struct kvm_run *run = vcpu->run;
    ret->regs = run->s.regs.regs;
    ret->sregs = run->s.regs.sregs;
    ret->reason = run->exit_reason;
    if (run->exit_reason == KVM_EXIT_FAIL_ENTRY)
        ret->suberror = run->fail_entry.hardware_entry_failure_reason;
    if (run->exit_reason != KVM_EXIT_INTERNAL_ERROR)
        return;
    ret->suberror = run->internal.suberror;
    ret->words = MIN(run->internal.ndata, (uint32_t)HVM_ERROR_WORDS);
    for (unsigned i = 0; i < ret->words; i++)
        ret->word[i] = run->internal.data[i];
}

bool hvm_details_usable(const struct hvm_details *details)
{
    return details->sregs.efer & EFER_LMA && details->sregs.cs.l;
}

const char *hvm_exit_name(struct hvm_exit exit)
{
    switch (exit.kind) {
    case HVM_EXIT_STORE:
        return "store where no memory is";
    case HVM_EXIT_DEAD:
        return "virtual machine of another process";
    case HVM_EXIT_REFUSED:
        return mv_strerror((long)exit.address);
    case HVM_EXIT_FAILURE:
        break;
    default:
        return "unexpected exit";
    }
    switch (exit.address) {
    case KVM_EXIT_UNKNOWN:
        return "exit of a kind unknown to KVM";
    case KVM_EXIT_EXCEPTION:
        return "exception exit";
    case KVM_EXIT_MMIO:
        return "load where no memory is";
    case KVM_EXIT_SHUTDOWN:
        return "triple fault";
    case KVM_EXIT_FAIL_ENTRY:
        return "failed entry";
    case KVM_EXIT_INTERNAL_ERROR:
        return "KVM internal error";
    case KVM_EXIT_SYSTEM_EVENT:
        return "system event";
    default:
        return "unexpected exit";
    }
}
