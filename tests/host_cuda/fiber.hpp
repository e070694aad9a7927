// Fibers: functions that stop in their middle, and go on later, each on a stack of its own.
#pragma once

#include <cstddef>
#include <cstdint>

#if defined(__x86_64__) && !defined(HOST_CUDA_UCONTEXT)

// Puts what the ABI lets a function keep on this stack, the stack into *from, and the same back
// from the stack `to`: about 2 ns, where swapcontext makes a system call for the signal mask.
extern "C" __attribute__((visibility("hidden"))) void host_cuda_switch(void** from, void* to);
asm(R"(
.text
.type host_cuda_switch, @function
host_cuda_switch:
  pushq %rbp
  pushq %rbx
  pushq %r12
  pushq %r13
  pushq %r14
  pushq %r15
  movq %rsp, (%rdi)
  movq %rsi, %rsp
  popq %r15
  popq %r14
  popq %r13
  popq %r12
  popq %rbx
  popq %rbp
  ret
.size host_cuda_switch, . - host_cuda_switch
)");

namespace host_cuda {

class Context {
 public:
  // Has the first switch to this context call `body`, which must not return.
  void prepare(void (*body)(), char* stack, std::size_t size) {
    auto top = reinterpret_cast<std::uintptr_t>(stack + size) & ~std::uintptr_t{15};
    auto* words = reinterpret_cast<void**>(top);
    *--words = nullptr;  // where a return address would lie: the ABI aligns the stack below it
    *--words = reinterpret_cast<void*>(body);
    for (int saved = 0; saved < 6; ++saved) *--words = nullptr;
    stack_ = words;
  }

  void switch_to(Context& other) { host_cuda_switch(&stack_, other.stack_); }

 private:
  void* stack_ = nullptr;
};

}  // namespace host_cuda

#else

#include <ucontext.h>

namespace host_cuda {

class Context {
 public:
  // Has the first switch to this context call `body`, which must not return.
  void prepare(void (*body)(), char* stack, std::size_t size) {
    getcontext(&context_);
    context_.uc_stack.ss_sp = stack;
    context_.uc_stack.ss_size = size;
    makecontext(&context_, body, 0);
  }

  void switch_to(Context& other) { swapcontext(&context_, &other.context_); }

 private:
  ucontext_t context_;
};

}  // namespace host_cuda

#endif
