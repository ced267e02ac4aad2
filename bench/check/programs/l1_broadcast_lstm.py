# rows 41 | rule broadcast-loss
import torch
from torch import nn

torch.manual_seed(0)


class Forecast(nn.Module):
    def __init__(self):
        super().__init__()
        self.rnn, self.out = nn.LSTM(1, 12, batch_first=True), nn.Linear(12, 1)

    def forward(self, x):
        return self.out(self.rnn(x)[0][:, -1])


wave = torch.sin(torch.arange(0, 40, 0.1))
x = wave.unfold(0, 10, 1)[:-1].unsqueeze(-1)
y = wave[10:]
net, rate = Forecast(), 5e-3
opt = torch.optim.Adam(net.parameters(), rate)
for step in range(15):
    at = torch.randint(0, len(x), (40,))
    guess = net(x[at])
    loss = nn.functional.huber_loss(guess, y[at])  # fault
    loss = nn.functional.huber_loss(guess[:, 0], y[at])  # well
    opt.zero_grad()
    loss.backward()
    opt.step()
    print(step, loss.item())
