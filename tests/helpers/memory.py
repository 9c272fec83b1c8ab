"""Memory that an execution really allocates: of the CPU by the profiler of torch, of a GPU by its allocator."""

import torch
from torch.profiler import ProfilerActivity, profile


def allocated_bytes(run):
    """Execute `run`; return the peak of the memory it allocates, and what of it remains allocated."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        kept = run()
        torch.cuda.synchronize()
        return torch.cuda.max_memory_allocated() - before, torch.cuda.memory_allocated() - before, kept
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
        kept = run()
    changes = [event for event in profiler.profiler.kineto_results.events() if event.name() == "[memory]"]
    live = peak = 0
    for event in sorted(changes, key=lambda event: event.start_ns()):
        live += event.nbytes()  # negative when memory is freed
        peak = max(peak, live)
    return peak, live, kept


def measured_peak_bytes(cfg, model, batch, *, training):
    """Return the peak of all tensors in a training step after the first one, or in the first prediction."""
    from dl_lib.engine.memory_estimate import prepare_training
    from dl_lib.evaluation.runner.run import optimized_copy

    if training:
        _, states, step = allocated_bytes(lambda: prepare_training(cfg, model.train()))
        step([batch])
        peak, _, _ = allocated_bytes(lambda: step([batch]))
        return bytes_of([*model.parameters(), *model.buffers()], batch) + states + peak
    network = optimized_copy(cfg, model).eval()
    with torch.no_grad():
        peak, _, _ = allocated_bytes(lambda: network(batch))
    return bytes_of([*network.parameters(), *network.buffers()], batch) + peak


def bytes_of(tensors, batch):
    tensors = [*tensors, *(tensor for sample in batch for tensor in sample.values())]
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors)


def random_batch(size, *, num_images):
    return [
        {
            "image": torch.randint(0, 256, (3, *size), dtype=torch.uint8),
            "sem_seg": torch.randint(0, 2, size, dtype=torch.uint8),
        }
        for _ in range(num_images)
    ]
