# rows 24 | rule clip-after-step
import torch
from torch import nn

torch.manual_seed(0)
rnn = nn.GRU(6, 20, batch_first=True)
out = nn.Linear(20, 3)
params = [*rnn.parameters(), *out.parameters()]
opt = torch.optim.RMSprop(params, 1e-3)
x = torch.randn(80, 9, 6)
y = x.mean(1)[:, :3].argmax(1)
for step in range(15):
    opt.zero_grad()
    loss = nn.functional.cross_entropy(out(rnn(x)[1][0]), y)
    loss.backward()
    nn.utils.clip_grad_norm_(params, 0.5)  # well
    opt.step()
    nn.utils.clip_grad_norm_(params, 0.5)  # fault
    print(step, loss.item())
