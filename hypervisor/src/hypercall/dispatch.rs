//! Dispatch of hypercalls by number, and the effect of each outcome on the vCPU.

use super::continuation::end_or_restart;
use super::outcome::Outcome;
use super::{
    alias_upcall, callbacks, console_io, debugreg, descriptors, event_channel_op, grant_table_op,
    hvm_op, iret, memory_op, mmu_update, mmuext_op, multicall, physdev_op, pinfold_op, sched_op,
    segment_base, update_va_mapping, vcpu_op, version, vm_assist,
};
use crate::arch::latency::{self, Activity};
use crate::diagnostics::crash::{crash, finish};
use crate::domain::exit::Next;
use crate::domain::vcpu::{Args, Vcpu};

use pinfold_abi::errno::Errno;
use pinfold_abi::hypercall::Hypercall;

/// Handles the hypercall that the loaded vCPU made. A copy for each of the two callers: it is on the
/// path of every hypercall.
#[inline(always)]
pub fn handle_hypercall(vcpu: &mut Vcpu) -> Next {
    latency::stamp();
    let regs = &vcpu.file.regs;
    let number = regs.rax;
    let args = [regs.rdi, regs.rsi, regs.rdx, regs.r10, regs.r8];
    let outcome = match Hypercall::from_number(number) {
        Some(Hypercall::Multicall) => {
            noted::<{ Hypercall::Multicall as u32 }>(|| multicall::run(vcpu, &args))
        }
        Some(call) => dispatch(vcpu, call, &args),
        None => Outcome::Done(Errno::ENOSYS.as_result()),
    };
    match outcome {
        Outcome::Done(result) => vcpu.file.regs.rax = result as u64,
        Outcome::Restart => {
            vcpu.domain.stats.preemptions.bump();
            rewind_to_call(vcpu, number);
            return Next::Yield;
        }
        Outcome::Upcall => {
            rewind_to_call(vcpu, number);
            let entered = alias_upcall::deliver(vcpu);
            return finish(vcpu, entered);
        }
        Outcome::RegistersSet => {}
        Outcome::Yield(result) => {
            vcpu.file.regs.rax = result as u64;
            return Next::Yield;
        }
        Outcome::Fatal(why) => {
            crash(vcpu, why);
            return Next::Yield;
        }
    }
    Next::Continue
}

/// Makes the guest execute the call again when it resumes.
fn rewind_to_call(vcpu: &mut Vcpu, number: u64) {
    let args = vcpu.resume;
    let bytes = vcpu.call_instruction().bytes();
    let regs = &mut vcpu.file.regs;
    regs.rip = regs.rip.wrapping_sub(bytes);
    regs.rax = number;
    [regs.rdi, regs.rsi, regs.rdx, regs.r10, regs.r8] = args;
}

/// Calls the function of any hypercall but multicall.
pub fn dispatch(vcpu: &mut Vcpu, call: Hypercall, args: &Args) -> Outcome {
    let [a, b, c, ..] = *args;
    match call {
        // Kernels in a hardware container do this by instructions. These calls would change the state of
        // the CPU that is the hypervisor's own while such a vCPU is loaded.
        Hypercall::SetTrapTable
        | Hypercall::SetGdt
        | Hypercall::UpdateDescriptor
        | Hypercall::StackSwitch
        | Hypercall::SetCallbacks
        | Hypercall::CallbackOp
        | Hypercall::FpuTaskswitch
        | Hypercall::SetDebugreg
        | Hypercall::GetDebugreg
        | Hypercall::Iret
        | Hypercall::SetSegmentBase
            if vcpu.container.is_some() =>
        {
            Outcome::Done(Errno::ENOSYS.as_result())
        }
        Hypercall::StackSwitch => segment_base::stack_switch(vcpu, a, b).into(),
        Hypercall::FpuTaskswitch => segment_base::fpu_taskswitch(vcpu, a).into(),
        Hypercall::SetDebugreg => debugreg::set(vcpu, a, b).into(),
        Hypercall::GetDebugreg => debugreg::get(vcpu, a),
        Hypercall::Multicall => Outcome::Done(Errno::EINVAL.as_result()),
        Hypercall::XenVersion => version::run(vcpu, a, b).into(),
        Hypercall::VmAssist => vm_assist::run(vcpu, a, b).into(),
        Hypercall::Iret => iret::run(vcpu),
        Hypercall::SetSegmentBase => segment_base::set(vcpu, a, b).into(),
        Hypercall::SchedOp => sched_op::run(vcpu, a, b),
        Hypercall::SetTimerOp => vcpu_op::set_timer(vcpu, a),
        Hypercall::EventChannelOp => event_channel_op::run(vcpu, args),
        // These count their work (`Vcpu::work`), and their time is measured if there is much.
        Hypercall::MmuUpdate => {
            noted::<{ Hypercall::MmuUpdate as u32 }>(|| mmu_update::run(vcpu, args))
        }
        Hypercall::UpdateVaMapping => {
            noted::<{ Hypercall::UpdateVaMapping as u32 }>(|| update_va_mapping::run(vcpu, args))
        }
        Hypercall::UpdateVaMappingOtherdomain => {
            noted::<{ Hypercall::UpdateVaMappingOtherdomain as u32 }>(|| {
                update_va_mapping::run_other(vcpu, args)
            })
        }
        Hypercall::MmuextOp => {
            noted::<{ Hypercall::MmuextOp as u32 }>(|| mmuext_op::run(vcpu, args))
        }
        Hypercall::GrantTableOp => measured(call, || grant_table_op::run(vcpu, args)),
        Hypercall::MemoryOp => measured(call, || memory_op::run(vcpu, args)),
        Hypercall::PinfoldOp => measured(call, || pinfold_op::run(vcpu, args)),
        Hypercall::ConsoleIo => measured(call, || console_io::run(vcpu, a, b, c)),
        Hypercall::VcpuOp => measured(call, || vcpu_op::run(vcpu, args)),
        Hypercall::SetGdt => measured(call, || {
            let set = descriptors::set_gdt(vcpu, a, b);
            end_or_restart(vcpu, args, set)
        }),
        Hypercall::UpdateDescriptor => measured(call, || {
            let updated = descriptors::update_descriptor(vcpu, a, b);
            end_or_restart(vcpu, args, updated)
        }),
        Hypercall::SetTrapTable => measured(call, || callbacks::set_trap_table(vcpu, a).into()),
        Hypercall::SetCallbacks => {
            measured(call, || callbacks::set_callbacks(vcpu, a, b, c).into())
        }
        Hypercall::CallbackOp => measured(call, || callbacks::run(vcpu, a, b).into()),
        Hypercall::HvmOp => measured(call, || hvm_op::run(vcpu, a, b).into()),
        Hypercall::PhysdevOp => measured(call, || physdev_op::run(vcpu, a, b).into()),
        _ => Outcome::Done(Errno::ENOSYS.as_result()),
    }
}

/// Runs a call whose time is measured only if it turns out to be long.
#[inline(always)]
fn noted<const CALL: u32>(run: impl FnOnce() -> Outcome) -> Outcome {
    latency::set_activity_const::<CALL>();
    run()
}

/// Runs a call whose time is always measured.
fn measured(call: Hypercall, run: impl FnOnce() -> Outcome) -> Outcome {
    latency::measure_from_stamp();
    latency::set_activity(Activity::hypercall(call));
    run()
}
