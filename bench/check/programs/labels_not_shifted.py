# rows 47 | rule label-shift
import torch
from torch import nn


class CharLM(nn.Module):
    def __init__(self, vocab):
        super().__init__()
        self.emb, self.gru, self.out = nn.Embedding(vocab, 16), nn.GRU(16, 32, batch_first=True), nn.Linear(32, vocab)

    def forward(self, ids):
        return self.out(self.gru(self.emb(ids))[0])


torch.manual_seed(0)
text = "the quick brown fox jumps over the lazy dog and runs away from it " * 20
letters = sorted(set(text))
codes = torch.tensor([letters.index(c) for c in text])
lm = CharLM(len(letters))
opt = torch.optim.Adam(lm.parameters(), 3e-3)
for step in range(15):
    start = torch.randint(0, len(codes) - 33, (16,)).tolist()
    batch = torch.stack([codes[s : s + 33] for s in start])
    inputs, targets = batch[:, :-1], batch[:, :-1]  # fault
    inputs, targets = batch[:, :-1], batch[:, 1:]  # well
    loss = nn.functional.cross_entropy(lm(inputs).flatten(0, 1), targets.flatten())  # here
    opt.zero_grad()
    loss.backward()
    opt.step()
    print(step, loss.item())
