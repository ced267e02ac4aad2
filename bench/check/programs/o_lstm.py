# control 82
import torch
from torch import nn

torch.manual_seed(0)
rnn, out = nn.LSTM(16, 96, 2, batch_first=True), nn.Linear(96, 16)
opt = torch.optim.Adam([*rnn.parameters(), *out.parameters()], 1e-3)
x = torch.randn(64, 40, 16).cumsum(1) * 0.2
for step in range(50):
    at = torch.randint(0, 64, (32,))
    loss = nn.functional.mse_loss(out(rnn(x[at, :-1])[0]), x[at, 1:])
    opt.zero_grad()
    loss.backward()
    nn.utils.clip_grad_norm_(rnn.parameters(), 1.0)
    opt.step()
    if step % 10 == 0:
        print(step, loss.item())
